"""Random sequences of turns, changes by other hands, rewinds, undos, forks, faults and losses,
against the plain model of `plain_rewinding.py`.
"""

import asyncio
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jupyter_ccapi.claude import Conversation, Options, Pool, TextDelta, Tool
from jupyter_ccapi.claude.errors import ClaudeError, ProcessDied
from jupyter_ccapi.claude.rewinding import Rewinder, Wish
from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.effects import Fault, effects
from tests.claude.plain_rewinding import File, Files, Plain, Refused
from tests.claude.rewinding_setup import Sessions, Talk
from tests.claude.support import conversation_sent, gone, held, started, until

#: How often as long the tests of this file take: more than 1 for a long search.
EFFORT = int(os.environ.get("CCAPI_REWIND_EFFORT", "1"))

PATHS = ("a", "b.txt", "d/x", "d/y", "d/e/z", "d", "b.txt/in", "-n\n\udcff", "E/é.ipynb")
paths = st.sampled_from(PATHS)


def changes_of(
    paths: st.SearchStrategy[str], contents: st.SearchStrategy[str]
) -> st.SearchStrategy[tuple[str, str, Any]]:
    """What anybody may do to files."""
    return st.one_of(
        st.tuples(st.just("write"), paths, contents),
        st.tuples(st.just("write"), paths, contents),
        st.tuples(st.just("remove"), paths, st.none()),
        st.tuples(st.just("rename"), paths, paths),
        st.tuples(st.just("program"), paths, st.booleans()),
        st.tuples(st.just("folder"), st.sampled_from(("d", "d/e", "new", "a/b")), st.none()),
    )


changes = changes_of(paths, st.sampled_from(("", "1\n", "2\n", "2", "1\r\n", "\0\ud800")))
several = st.lists(changes, max_size=3)
faults = (
    st.none()
    if os.environ.get("NOFAULT")
    else st.one_of(
        st.none(),
        st.tuples(st.integers(1, 40), st.sampled_from(("fails once", "is full", "is read-only"))),
    )
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
            self._clear(f"{name}/")
            path.mkdir(parents=True, exist_ok=True)
        elif kind == "remove":
            self._take(name)
        elif kind == "rename" and name in self.files and not f"{more}/".startswith(f"{name}/"):
            file = self.files[name]
            kept = self.path.with_name("kept file")
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
        if not name.endswith("/") and (self.path / name).is_dir():
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
        self.sessions = Sessions(self.home / "sessions")
        self.subjects: list[Subject] = []
        self.said = 0
        self._add(Plain())

    def teardown(self) -> None:
        for subject in self.subjects:
            self.runner.run(subject.timeline.close())
        self.runner.close()
        shutil.rmtree(self.home)

    def _open(self, id: str) -> Timeline:
        kept, store = self.home / "kept", self.home / "store"
        opening = Timeline.open(kept, id, workspace=self.folder.path, store=store)
        return self.runner.run(opening)

    def _add(self, plain: Plain) -> None:
        id = f"conversation {len(self.subjects)}"
        timeline = self._open(id)
        talk = Talk(self.sessions, timeline.record.head)
        self.subjects.append(Subject(id, timeline, talk, plain))

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
        self.runner.run(one.timeline.close())
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
                path for path in with_it.keys() | then.keys() if with_it.get(path) != then.get(path)
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
        except ClaudeError:
            if expected is not None and fault is None:
                raise
        else:
            assert expected is not None
            self.folder.files, one.plain = expected
        # There may be room again, and somebody goes on with the conversation.
        self.runner.run(Rewinder(one.timeline, one.talk).recover())

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
        head = self.runner.run(Rewinder(one.timeline, one.talk).head_before(number))
        id = f"conversation {len(self.subjects)}"
        self.runner.run(one.timeline.fork(id, head, number))
        self._add(plain)

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
        # What a disk did not even let be removed goes when the conversation is opened again.
        assert {name for name in names if not name.startswith(".")} <= known


@pytest.mark.timeout(120 * EFFORT)
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
        ),
    )


# With Claude Code itself: names without conflicts, and contents that its tools leave alone.
names = st.sampled_from(("a.txt", "b.txt", "d/x.txt", "d/e/y.txt"))
numbers = st.integers(0, 3)
turns = st.tuples(
    st.sampled_from(("write", "edit", "bash", "kernel", "talk", "stopped", "killed")),
    names,
    numbers,
)
steps = st.one_of(
    turns,
    turns,
    turns,
    st.tuples(st.just("user"), changes_of(names, st.sampled_from(("1\n", "2\n"))), numbers),
    st.tuples(st.just("rewind"), st.tuples(*[st.sampled_from((True, True, False))] * 3), numbers),
    st.tuples(st.just("rewind"), st.tuples(*[st.sampled_from((True, True, False))] * 3), numbers),
    st.tuples(st.just("undo"), st.booleans(), numbers),
    st.tuples(st.sampled_from(("fork", "restart", "dies idle")), st.none(), numbers),
)


@dataclass
class Real:
    """A conversation with Claude Code, and what it must be."""

    id: str
    conversation: Conversation
    plain: Plain


class WithClaude:
    """A folder in which one or two conversations work. ``answers`` are those to each prompt that
    got one.
    """

    def __init__(self, pool: Pool, model: OfflineModel, home: Path, number: int) -> None:
        self._pool = pool
        self._model = model
        self._home = home
        self._kept = home / f"kept {number}"
        self.folder = Folder(home / f"project {number}")
        self._tool = Tool("run_python", "Runs code.", {"type": "object"}, self._kernel)
        self._waiting: list[tuple[str, str, Any]] = []
        self._answers: dict[str, str] = {}
        self._said = 0
        self.all: list[Real] = []

    async def open(self, id: str, plain: Plain) -> None:
        """Open a conversation, as after a restart where it is known."""
        options = Options(
            mode="agent",
            cwd=self.folder.path,
            tools=(self._tool,),
            sdk={"permission_mode": "acceptEdits", "allowed_tools": ["Bash"]},
        )
        store = self._home / "snapshots"
        timeline = await Timeline.open(self._kept, id, workspace=options.cwd, store=store)
        conversation = Conversation(self._pool, options, id=id, timeline=timeline)
        self.all.append(Real(id, conversation, plain))

    async def close(self, one: Real) -> None:
        await one.conversation.close()
        assert one.conversation.timeline is not None
        await one.conversation.timeline.close()
        self.all.remove(one)

    async def step(self, kind: str, what: Any, number: int) -> None:
        """Do one thing."""
        one = self.all[number % len(self.all)]
        if kind == "user":
            self.folder.apply(*what)
        elif kind == "rewind":
            await self._rewind(one, number, what)
        elif kind == "undo":
            await self._undo(one, force=what)
        elif kind == "fork":
            await self._fork(one, number)
        elif kind == "restart":
            await self.close(one)
            await self.open(one.id, one.plain)
        elif kind == "dies idle":
            for process in started(self._home):
                process.kill()
                await gone(process)
        else:
            await self._turn(one, kind, what)
        self.check()

    def check(self) -> None:
        assert self.folder.look() == self.folder.files
        for one in self.all:
            assert one.conversation.timeline is not None
            told = [(c.number, c.words) for c in one.conversation.timeline.checkpoints]
            assert told == [(p.number, p.words) for p in one.plain.prompts]

    async def _turn(self, one: Real, kind: str, name: str) -> None:
        self._said += 1
        words, answer = f"prompt {self._said}", f"answer {self._said}"
        content = f"{kind} {self._said}\n"
        path = self.folder.path / name
        was = self.folder.files.get(name)
        read = [Reply(tools=[("Read", {"file_path": str(path)})])] if was else []
        one.plain.begin(words, self.folder.files)
        tool: tuple[str, dict[str, Any]] | None = None
        if kind == "edit" and was is not None:
            edit = {"file_path": str(path), "old_string": was[0], "new_string": content}
            tool = ("Edit", edit)
        elif kind in ("write", "edit"):
            tool = ("Write", {"file_path": str(path), "content": content})
        elif kind == "kernel":
            tool, read = ("mcp__client__run_python", {}), []
            self._waiting = [("remove", name, None), ("write", "kernel.txt", content)]
        elif kind != "talk":
            quoted, program = shlex.quote(name), "+x" if self._said % 2 else "-x"
            does = f"mkdir -p d/e; printf '{kind} {self._said}\\n' > {quoted}"
            tool, read = ("Bash", {"command": f"{does}; chmod {program} {quoted}"}), []
        last = held("never ends") if kind in ("stopped", "killed") else Reply(answer)
        self._model.clear()
        self._model.script(*read, *([Reply(tools=[tool])] if tool else []), last)
        turn = one.conversation.send(words)
        if kind in ("stopped", "killed"):
            await until(turn, TextDelta)
            if kind == "stopped":
                await turn.interrupt()
            else:
                # The newest: the one that this turn runs in.
                pid = one.conversation._slot.process.pid  # type: ignore[union-attr]
                psutil.Process(pid).kill()
                with pytest.raises(ProcessDied):
                    await turn.finish()
            self._model.release()
        else:
            await turn.finish()
            self._answers[words] = answer
        if kind == "bash" or last.hold is not None:
            self.folder.files[name] = (content, self._said % 2 == 1)
        elif tool is not None and kind != "kernel":
            self.folder.files[name] = (content, was is not None and was[1])
        self._heard(one.plain.history, words)
        one.plain.end(self.folder.files)

    def _heard(self, history: tuple[str, ...], words: str) -> None:
        """The model was told all that was said, and nothing that was rewound."""
        expected: list[str] = []
        for prompt in history:
            expected += [prompt, self._answers[prompt]] if prompt in self._answers else [prompt]
        told = conversation_sent(self._model.main_requests[0])
        said = re.findall(r"\b(?:prompt|answer) \d+\b", "\n".join(text for _, text in told))
        assert said == [*expected, words]

    async def _kernel(self, _: dict[str, Any]) -> str:
        """What code in the user's kernel does in the middle of a turn."""
        for change in self._waiting:
            self.folder.apply(*change)
        return "Done."

    async def _rewind(self, one: Real, back: int, how: tuple[bool, bool, bool]) -> None:
        wish: dict[str, Any] = {"files": how[0], "conversation": how[1], "force": not how[2]}
        number = one.plain.prompts[-1].number - back if one.plain.prompts else 1
        try:
            expected = one.plain.rewind(number, self.folder.files, **wish)
        except Refused:
            with pytest.raises(ClaudeError):
                await one.conversation.rewinding(lambda r: r.rewind(number, Wish(**wish)))
            return
        plan = await one.conversation.rewinding(lambda r: r.preview(number, Wish(**wish)))
        then = expected[0]
        both = self.folder.files.items() ^ then.items()
        assert {change.path for change in plan.files} == {name for name, _ in both}
        await one.conversation.rewinding(lambda r: r.rewind(number, Wish(**wish)))
        self.folder.files, one.plain = expected

    async def _undo(self, one: Real, *, force: bool) -> None:
        try:
            expected = one.plain.undo(self.folder.files, force=force)
        except Refused:
            with pytest.raises(ClaudeError):
                await one.conversation.rewinding(lambda r: r.undo(Wish(force=force)))
            return
        await one.conversation.rewinding(lambda r: r.undo(Wish(force=force)))
        self.folder.files, one.plain = expected

    async def _fork(self, one: Real, back: int) -> None:
        number = one.plain.prompts[-1].number - back if one.plain.prompts else 1
        if len(self.all) > 1 or back % 2:
            return
        try:
            plain = one.plain.fork(number)
        except Refused:
            return
        await one.conversation.fork("fork", number)
        await self.open("fork", plain)


@pytest.mark.timeout(120 * EFFORT)
def test_claude_and_its_rewinds_do_what_they_must(
    jp_asyncio_loop: asyncio.AbstractEventLoop,
    pool: Pool,
    model: OfflineModel,
    home: Path,
) -> None:
    examples = count(1)

    async def run(given_steps: list[tuple[str, Any, int]]) -> None:
        world = WithClaude(pool, model, home, next(examples))
        await world.open("one", Plain())
        try:
            for step in given_steps:
                await world.step(*step)
            for one in world.all:
                await world.step("talk", "", world.all.index(one))
        finally:
            for one in list(world.all):
                await world.close(one)

    @settings(
        max_examples=6 * EFFORT,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        # To find a shorter one takes minutes.
        phases=list(Phase) if EFFORT > 1 else [Phase.explicit, Phase.generate],
    )
    @given(st.lists(steps, min_size=25, max_size=25))
    def runs(given_steps: list[tuple[str, Any, int]]) -> None:
        jp_asyncio_loop.run_until_complete(run(given_steps))

    runs()
