"""What checkpoints and rewinds must do, in plain lists and dicts: the model that tests compare to.

A folder is a dict of its files. The rule for a rewind: what the undone turns changed is put back;
what only another hand changed since stays; what both changed is a conflict, and then nothing is
done, unless it is forced, which makes every file what it was before that prompt.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

#: What a file holds, and whether it is a program.
File = tuple[str, bool]
Files = dict[str, File]


class Refused(Exception):
    """It cannot be done, and nothing is."""


@dataclass(frozen=True)
class Time:
    """A turn's, or a rewind's: the files before and after it; None where nobody saw its end."""

    before: Files
    after: Files | None


@dataclass(frozen=True)
class Prompt:
    """A checkpoint: ``time`` is the place of its turn in ``Plain.times``; ``history`` are the
    prompts before it, None where it is not known where it stands.
    """

    number: int
    words: str
    time: int
    history: tuple[str, ...] | None


@dataclass(frozen=True)
class Rewind:
    """One that can be taken back."""

    time: int | None
    history: tuple[str, ...] | None
    undone: tuple[Prompt, ...]


@dataclass
class Plain:
    """One conversation. ``history`` are the prompts that the model has been told of."""

    history: tuple[str, ...] = ()
    times: list[Time] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    rewinds: list[Rewind] = field(default_factory=list)
    lasts: bool = False  # whether it is known where it stands, after a loss too

    def begin(self, words: str, files: Files) -> None:
        """A prompt is sent."""
        number = self.prompts[-1].number + 1 if self.prompts else 1
        self.prompts.append(Prompt(number, words, len(self.times), None))
        self.times.append(Time(dict(files), None))
        self.rewinds.clear()

    def end(self, files: Files, *, taken_up: bool = True) -> None:
        """Its turn is over."""
        self.times[-1] = replace(self.times[-1], after=dict(files))
        last = self.prompts.pop()
        self.lasts = True
        if taken_up:
            self.prompts.append(replace(last, history=self.history))
            self.history += (last.words,)

    def lose(self) -> None:
        """Whoever ran the turn is gone before its end."""
        words = self.prompts[-1].words
        self.history = (*self.history, words) if self.lasts else ()

    def prompt(self, number: int) -> Prompt:
        """The checkpoint of this number."""
        for prompt in self.prompts:
            if prompt.number == number:
                return prompt
        raise Refused

    def rewind(
        self,
        number: int,
        now: Files,
        *,
        files: bool = True,
        conversation: bool = True,
        force: bool = False,
        protected: Collection[str] = (),
    ) -> tuple[Files, "Plain"]:
        """The folder and the conversation after a rewind."""
        prompt = self.prompt(number)
        if conversation and prompt.history is None:
            raise Refused
        then = self._files(prompt.time, now, force, protected) if files else now
        after = self._changed(now, then)
        time = len(self.times) if then != now else None
        place = self.prompts.index(prompt)
        if conversation:
            assert prompt.history is not None
            undone = tuple(self.prompts[place:])
            after.rewinds.append(Rewind(time, self.history, undone))
            after.prompts = self.prompts[:place]
            after.history, after.lasts = prompt.history, True
        else:
            after.rewinds.append(Rewind(time, None, ()))
        return then, after

    def undo(
        self, now: Files, *, force: bool = False, protected: Collection[str] = ()
    ) -> tuple[Files, "Plain"]:
        """The folder and the conversation when the last rewind is taken back."""
        if not self.rewinds:
            raise Refused
        last = self.rewinds[-1]
        then = now if last.time is None else self._files(last.time, now, force, protected)
        after = self._changed(now, then)
        after.rewinds.pop()
        after.prompts += last.undone
        if last.history is not None:
            after.history = last.history
        return then, after

    def fork(self, number: int) -> "Plain":
        """Another conversation, that stands before this prompt."""
        prompt = self.prompt(number)
        if prompt.history is None:
            raise Refused
        before = [one for one in self.prompts if one.number < number]
        return Plain(prompt.history, list(self.times), before, lasts=True)

    def _changed(self, now: Files, then: Files) -> "Plain":
        changed = [Time(dict(now), dict(then))] if then != now else []
        return replace(
            self,
            times=[*self.times, *changed],
            prompts=list(self.prompts),
            rewinds=list(self.rewinds),
        )

    def _files(self, time: int, now: Files, force: bool, protected: Collection[str]) -> Files:
        target = self.times[time].before
        ours, others = self._hands(time, now)
        then = dict(now)
        for path in _differing(now, target):
            if path in protected:
                continue
            if not force and path in others:
                if path in ours:
                    raise Refused
                continue
            if path in target:
                then[path] = target[path]
            else:
                del then[path]
        for path in then:
            names = path.split("/")
            if any("/".join(names[:end]) in then for end in range(1, len(names))):
                raise Refused  # a file and a folder of one name
        return then

    def _hands(self, time: int, now: Files) -> tuple[set[str], set[str]]:
        ours: set[str] = set()
        others: set[str] = set()
        times = self.times[time:]
        for one, then in zip(times, [*(one.before for one in times[1:]), now], strict=True):
            if one.after is None:
                ours |= _differing(one.before, then)
                others |= _differing(one.before, then)
            else:
                ours |= _differing(one.before, one.after)
                others |= _differing(one.after, then)
        return ours, others


def _differing(one: Files, other: Files) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
