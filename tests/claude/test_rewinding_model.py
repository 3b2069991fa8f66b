"""Random sequences of turns, changes by other hands, rewinds, undos, forks, faults and losses,
against the plain model of `plain_rewinding.py`.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jupyter_ccapi.claude.errors import ClaudeError
from jupyter_ccapi.claude.record import Pointer
from jupyter_ccapi.claude.rewinding import Rewinder, Wish
from jupyter_ccapi.claude.timeline import Timeline
from tests.claude.effects import Fault, effects
from tests.claude.plain_rewinding import File, Files, Plain, Refused

#: How often as long the tests of this file take: more than 1 for a long search.
EFFORT = int(os.environ.get("CCAPI_REWIND_EFFORT", "1"))

PATHS = ("a", "b.txt", "d/x", "d/y", "d/e/z", "d", "b.txt/in", "-n\n\udcff", "E/é.ipynb")
paths = st.sampled_from(PATHS)
contents = st.sampled_from(("", "1\n", "2\n", "2", "1\r\n", "\0\ud800"))
changes = st.one_of(
    st.tuples(st.just("write"), paths, contents),
    st.tuples(st.just("write"), paths, contents),
    st.tuples(st.just("remove"), paths, st.none()),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("program"), paths, st.booleans()),
    st.tuples(st.just("folder"), st.sampled_from(("d", "d/e", "new", "a/b")), st.none()),
)
several = st.lists(changes, max_size=3)
faults = st.none() if os.environ.get("NOFAULT") else st.one_of(
    st.none(),
    st.tuples(st.integers(1, 40), st.sampled_from(("fails once", "is full", "is read-only"))),
)


class Folder:
    """A folder, and what is to be in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: Files = {}
        path.mkdir()

    def apply(self, kind: str, name: str, more: Any) -> None:
        """Change both; what stands in the way goes."""
        path = self.path / name
        if kind == "write":
            self._clear(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(more.encode("utf-8", "surrogatepass"))
            self.files[name] = (more, path.stat().st_mode & 0o100 != 0)
        elif kind == "folder":
            self._clear(name)
            path.mkdir(parents=True, exist_ok=True)
        elif kind == "remove":
            self._take(name)
        elif kind == "rename" and name in self.files and not f"{more}/".startswith(f"{name}/"):
            file = self.files[name]
            kept = path.with_name(".kept")
            path.rename(kept)
            del self.files[name]
            self._clear(more)
            (self.path / more).parent.mkdir(parents=True, exist_ok=True)
            kept.rename(self.path / more)
            self.files[more] = file
        elif kind == "program" and name in self.files:
            path.chmod(0o755 if more else 0o644)
            self.files[name] = (self.files[name][0], more)

    def _clear(self, name: str) -> None:
        """Make room for a file or folder of this name."""
        names = name.split("/")
        for end in range(1, len(names)):
            if (above := "/".join(names[:end])) in self.files:
                self._take(above)
        if (self.path / name).is_dir():
            self._take(name)

    def _take(self, name: str) -> None:
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True) if path.parent.is_dir() else None
        self.files = {
            one: file
            for one, file in self.files.items()
            if one != name and not one.startswith(f"{name}/")
        }

    def look(self) -> Files:
        """What is there."""
        return {path.relative_to(self.path).as_posix(): _file(path) for path in _files(self.path)}


def _files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def _file(path: Path) -> File:
    content = path.read_bytes().decode("utf-8", "surrogatepass")
    return content, path.stat().st_mode & 0o100 != 0


@dataclass
class Sessions:
    """Stands for Claude Code: its sessions, each the prompts that it was told."""

    all: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def new(self, prompts: tuple[str, ...] = ()) -> Pointer:
        name = f"session {len(self.all)}"
        self.all[name] = prompts
        return {"session": name}


class Talk:
    """Stands for a conversation."""

    def __init__(self, sessions: Sessions, head: Pointer | None) -> None:
        self._sessions = sessions
        self.head = head or sessions.new()

    @property
    def history(self) -> tuple[str, ...]:
        return self._sessions.all[self.head["session"]]

    def say(self, prompt: str) -> Pointer:
        """Send a prompt; return where it stands."""
        session = self.head["session"]
        self._sessions.all[session] += (prompt,)
        return {"session": session, "place": len(self._sessions.all[session]) - 1}

    async def before(self, anchor: Pointer) -> Pointer:
        return self._sessions.new(self._sessions.all[anchor["session"]][: anchor["place"]])

    async def go(self, head: Pointer) -> None:
        self.head = head

    async def rewind_own_files(self, anchor: Pointer) -> None:
        raise AssertionError("the folder can be snapshotted")


@dataclass
class Subject:
    """A conversation with what it must be."""

    id: str
    timeline: Timeline
    talk: Talk
    plain: Plain


class Rewinding(RuleBasedStateMachine):
    """Conversations in one folder; to each, the others are another hand."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="ccapi-test-"))
        self.runner = asyncio.Runner()
        self.folder = Folder(self.home / "project")
        self.sessions = Sessions()
        self.subjects: list[Subject] = []
        self.said = 0
        self._add(Plain())

    def teardown(self) -> None:
        for subject in self.subjects:
            subject.timeline.close()
        self.runner.close()
        shutil.rmtree(self.home)

    def _open(self, id: str) -> Timeline:
        kept, store = self.home / "kept", self.home / "store"
        opening = Timeline.open(kept, id, workspace=self.folder.path, store=store)
        return self.runner.run(opening)

    def _add(self, plain: Plain, head: Pointer | None = None) -> None:
        id = f"conversation {len(self.subjects)}"
        timeline = self._open(id)
        if head is not None:
            timeline.record.head = head
            self.runner.run(timeline.save())
        self.subjects.append(Subject(id, timeline, Talk(self.sessions, head), plain))

    def _one(self, which: int) -> Subject:
        return self.subjects[which % len(self.subjects)]

    @rule(
        which=st.integers(0, 2),
        made=several,
        ending=st.sampled_from(("well", "well", "well", "not taken up", "lost")),
    )
    def turn(self, which: int, made: list[tuple[str, str, Any]], ending: str) -> None:
        """Claude, or code in the kernel, changes files in a turn."""
        one = self._one(which)
        self.said += 1
        words = f"prompt {self.said}"
        number = self.runner.run(one.timeline.begin(words))
        one.plain.begin(words, self.folder.files)
        assert number == one.plain.prompts[-1].number
        anchor = None if ending == "not taken up" else one.talk.say(words)
        for change in made:
            self.folder.apply(*change)
        if ending == "lost":
            one.plain.lose()
            self.restart(which)
            return
        self.runner.run(one.timeline.end(number, anchor=anchor, head=one.talk.head))
        one.plain.end(self.folder.files, taken_up=anchor is not None)

    @rule(made=several)
    def user(self, made: list[tuple[str, str, Any]]) -> None:
        """The user changes files between turns."""
        for change in made:
            self.folder.apply(*change)

    @rule(which=st.integers(0, 2))
    def restart(self, which: int) -> None:
        """The process that had the conversation is gone, another one opens it."""
        one = self._one(which)
        one.timeline.close()
        one.timeline = self._open(one.id)
        one.talk = Talk(self.sessions, one.timeline.record.head)

    @rule(
        which=st.integers(0, 2),
        back=st.integers(0, 4),
        files=st.sampled_from((True, True, False)),
        conversation=st.sampled_from((True, True, False)),
        force=st.booleans(),
        protected=st.lists(paths, max_size=1),
        really=st.sampled_from((True, True, False)),
        fault=faults,
    )
    def rewind(
        self,
        which: int,
        back: int,
        *,
        files: bool,
        conversation: bool,
        force: bool,
        protected: Collection[str],
        really: bool,
        fault: tuple[int, Fault] | None,
    ) -> None:
        one = self._one(which)
        number = one.plain.prompts[-1].number - back if one.plain.prompts else back
        how = {"files": files, "conversation": conversation, "force": force}
        wish = Wish(**how, protected=[self.folder.path / name for name in protected])
        rewinder = Rewinder(one.timeline, one.talk)
        if not really:
            try:
                plan = self.runner.run(rewinder.preview(number, wish))
            except ClaudeError:
                return
            with_it = dict(self.folder.files)
            try:
                then, _ = one.plain.rewind(number, with_it, **how, protected=protected)
            except Refused:
                return  # a preview shows what stands in the way
            assert {change.path for change in plan.files} == {
                path
                for path in with_it.keys() | then.keys()
                if with_it.get(path) != then.get(path)
            }
            return
        try:
            expected = one.plain.rewind(number, self.folder.files, **how, protected=protected)
        except Refused:
            expected = None
        self._do(one, rewinder.rewind(number, wish), expected, fault)

    @precondition(lambda self: any(one.plain.rewinds for one in self.subjects))
    @rule(which=st.integers(0, 2), force=st.booleans(), fault=faults)
    def undo(self, which: int, *, force: bool, fault: tuple[int, Fault] | None) -> None:
        one = next((s for s in self.subjects[which:] if s.plain.rewinds), self._one(which))
        try:
            expected = one.plain.undo(self.folder.files, force=force)
        except Refused:
            expected = None
        rewinder = Rewinder(one.timeline, one.talk)
        self._do(one, rewinder.undo(Wish(force=force)), expected, fault)

    def _do(
        self,
        one: Subject,
        doing: Any,
        expected: tuple[Files, Plain] | None,
        fault: tuple[int, Fault] | None,
    ) -> None:
        """Do it, in spite of a fault; it is done, or nothing is."""
        try:
            if fault is None:
                self.runner.run(doing)
            else:
                with effects(*fault):
                    self.runner.run(doing)
        except ClaudeError as error:
            assert str(error).endswith(".")
            assert expected is None or fault is not None, error
            # There may be room again, and somebody goes on with the conversation.
            self.runner.run(Rewinder(one.timeline, one.talk).recover())
        else:
            assert expected is not None
            self.folder.files, one.plain = expected

    @precondition(lambda self: len(self.subjects) < 3)
    @rule(which=st.integers(0, 2), back=st.integers(0, 3))
    def fork(self, which: int, back: int) -> None:
        """Another conversation begins at a checkpoint."""
        one = self._one(which)
        number = one.plain.prompts[-1].number - back if one.plain.prompts else 1
        try:
            plain = one.plain.fork(number)
        except Refused:
            return
        checkpoint = one.timeline.record.checkpoint(number)
        assert checkpoint is not None
        assert checkpoint.anchor is not None
        self._add(plain, self.runner.run(one.talk.before(checkpoint.anchor)))

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        assert self.folder.look() == self.folder.files
        for one in self.subjects:
            assert one.talk.history == one.plain.history
            told = [(c.number, c.words) for c in one.timeline.checkpoints]
            assert told == [(p.number, p.words) for p in one.plain.prompts]
            assert len(one.timeline.record.rewinds) == len(one.plain.rewinds)

    @invariant()
    def nothing_is_left_over(self) -> None:
        kept = self.home / "kept"
        names = {path.name for path in kept.iterdir()} if kept.exists() else set()
        known = {f"{one.id}.{end}" for one in self.subjects for end in ("json", "lock")}
        assert names <= known


def test_whatever_happens_files_and_conversations_are_what_they_must_be(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the machine stays up
    run_state_machine_as_test(
        Rewinding,
        settings=settings(
            max_examples=60 * EFFORT,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=[Phase.generate] if os.environ.get("NOSHRINK") else list(Phase),
        ),
    )
