"""What is kept of a conversation, against everything that befalls a file and its folder."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude.errors import (
    CannotSnapshot,
    ClaudeError,
    ConversationInUse,
    InvalidOption,
    RewindRefused,
)
from jupyter_ccapi.claude.record import Pointer, Record
from jupyter_ccapi.claude.rewinding import Rewinder, Wish
from jupyter_ccapi.claude.snapshots import SnapshotLimits, Snapshots
from jupyter_ccapi.claude.timeline import Timeline, read_records
from tests.claude.effects import effects
from tests.claude.rewinding_setup import Sessions, Talk, build, look, open_one, state
from tests.claude.support import PATIENCE

HOLDER = """
import asyncio, sys
from pathlib import Path
from tests.claude.rewinding_setup import open_one

async def hold():
    timeline, _ = await open_one(Path(sys.argv[1]))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


async def turn(timeline: Timeline, talk: Talk, words: str, change: Callable[[], object]) -> int:
    """One turn that changes files."""
    number = await timeline.begin(words)
    anchor = talk.say(words)
    change()
    await timeline.end(number, anchor=anchor, head=talk.head)
    return number


def writes(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text(text)


async def left_half_done(home: Path) -> None:
    """Build a conversation, and have a rewind of it cut off when a file was removed."""
    await build(home)
    timeline, talk = await open_one(home)
    number = 1
    while not timeline.journal.exists() or look(home / "project").get("new/new.txt"):
        shutil.rmtree(home)
        await timeline.close()
        await build(home)
        timeline, talk = await open_one(home)
        with pytest.raises(ClaudeError), effects(number, "is read-only"):
            await Rewinder(timeline, talk).rewind(2)
        number += 1
    await timeline.close()


# Who has it


async def test_two_processes_never_have_a_conversation_at_once(tmp_path: Path) -> None:
    await build(tmp_path)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(ConversationInUse, match=rf"process {other.pid}\).*close it there"):
            await open_one(tmp_path)
        # Another conversation in the same folder is no matter.
        two, _ = await open_one(tmp_path, "two")
        await two.close()
    finally:
        other.kill()
        other.communicate(timeout=PATIENCE)
    timeline, _ = await open_one(tmp_path)
    assert [one.number for one in timeline.checkpoints] == [1, 2, 3]
    await timeline.close()


async def test_in_one_process_the_newest_has_it_unless_a_turn_runs(tmp_path: Path) -> None:
    first, talk = await open_one(tmp_path)
    second, _ = await open_one(tmp_path)
    with pytest.raises(ConversationInUse, match="opened anew"):
        await first.begin("mine")
    number = await second.begin("a turn")
    with pytest.raises(ConversationInUse, match="is running"):
        await open_one(tmp_path)
    await second.end(number, anchor=talk.say("a turn"), head=talk.head)
    third, _ = await open_one(tmp_path)
    assert [one.words for one in third.checkpoints] == ["a turn"]
    await third.close()
    with pytest.raises(ConversationInUse):
        await third.begin("closed")


async def test_a_lock_is_let_go_of_with_what_held_it(tmp_path: Path) -> None:
    for _ in range(3):
        await open_one(tmp_path)
    timeline, _ = await open_one(tmp_path)
    await timeline.delete()
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("id", ["../one", "a/b", "", "..", "a\0b"])
async def test_an_id_names_no_file_elsewhere(id: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="no conversation's id"):
        await open_one(tmp_path, id)


# The record


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "\0" * 4096,
        lambda _: "[1, 2]",
        lambda _: "[" * 100_000,
        lambda text: text.replace('"version": 1', '"version": 99'),
        lambda text: text.replace('"number": 2', '"number": "two"'),
        lambda text: text.replace('"steps"', '"stops"'),
        lambda text: text.replace('"head": {', '"head": [{').replace('}, "steps', '}], "steps'),
        lambda text: text.replace("second", "\udcff"),
    ],
)
async def test_a_damaged_record_is_named_and_left_alone(
    damage: Callable[[str], str], tmp_path: Path
) -> None:
    await build(tmp_path)
    path = tmp_path / "kept" / "one.json"
    damaged = damage(path.read_text()).encode("utf-8", "surrogateescape")
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(ClaudeError, match=r"one\.json\) cannot be read.*Move the file away"):
        await open_one(tmp_path)
    assert path.read_bytes() == damaged
    assert read_records(tmp_path / "kept") == []
    path.unlink()
    timeline, _ = await open_one(tmp_path)
    await timeline.close()


async def test_words_with_anything_in_them_are_kept(tmp_path: Path) -> None:
    words = ["\ud800 \0 \u2028", "🧪" * 200, " \n ", '"\\']
    timeline, talk = await open_one(tmp_path)
    for one in words:
        await turn(timeline, talk, one, lambda: None)
    told = [one.words for one in timeline.checkpoints]
    assert told == ["\ud800 \0", "🧪" * 79 + "…", "", '"\\']
    await timeline.close()
    again, _ = await open_one(tmp_path)
    assert [one.words for one in again.checkpoints] == told
    await again.close()


async def test_a_clock_that_goes_backwards_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", earlier)
    await build(tmp_path)
    timeline, talk = await open_one(tmp_path)
    was = state(tmp_path, timeline, talk)
    await Rewinder(timeline, talk).rewind(1)
    assert look(tmp_path / "project") == {}
    await Rewinder(timeline, talk).undo()
    assert state(tmp_path, timeline, talk) == was
    await timeline.close()


async def test_a_thousand_prompts_are_kept_in_a_small_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    kept = tmp_path / "kept"
    timeline = await Timeline.open(kept, "one", workspace=None, store=tmp_path)
    edited = [tmp_path / f"{'long' * 20} {number}" for number in range(5)]
    for number in range(1000):
        assert await timeline.begin("word " * 1000) == number + 1
        anchor = {"session": "x" * 36, "prompt": "x" * 36, "cwd": "x" * 80}
        await timeline.end(number + 1, anchor=anchor, head=anchor, edited=edited)
    assert timeline.path.stat().st_size < 1_000_000
    assert timeline.checkpoints[0].files == ()
    assert len(timeline.checkpoints) == 1000
    await timeline.close()


async def test_steps_are_bounded_however_often_one_rewinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    timeline, talk = await open_one(tmp_path)
    path = tmp_path / "project" / "a.txt"
    await turn(timeline, talk, "first", writes(path, "first"))
    for number in range(300):
        await turn(timeline, talk, "again", writes(path, str(number)))
        await Rewinder(timeline, talk).rewind(2)
        assert path.read_text() == "first"
    assert len(timeline.record.steps) <= 402
    await turn(timeline, talk, "last", writes(path, "last"))
    with pytest.raises(RewindRefused, match="not kept any more"):
        await Rewinder(timeline, talk).rewind(1)
    await Rewinder(timeline, talk).rewind(2)
    assert path.read_text() == "first"
    await timeline.close()


async def test_what_a_process_that_is_gone_has_left_behind_is_removed(tmp_path: Path) -> None:
    await build(tmp_path)
    kept = tmp_path / "kept"
    (kept / ".one.json.0123abcd").write_text("{")
    (kept / "one.0123abcd.copies").mkdir()
    (kept / "one.0123abcd.copies" / "0").write_text("copy")
    (kept / ".two.json.0123abcd").write_text("another conversation's")
    timeline, _ = await open_one(tmp_path)
    assert sorted(path.name for path in kept.iterdir()) == [
        ".two.json.0123abcd",
        "one.json",
        "one.lock",
    ]
    await timeline.close()


# Prompts


async def test_where_a_prompt_cannot_be_noted_there_is_none(tmp_path: Path) -> None:
    await build(tmp_path)
    timeline, talk = await open_one(tmp_path)
    await Rewinder(timeline, talk).rewind(3)
    was = state(tmp_path, timeline, talk)
    written = timeline.path.read_bytes()
    # The end of a disk is met in taking the snapshot too: then the prompt goes without.
    for number in range(1, 100):
        with effects(number, "is full") as counting:
            try:
                await timeline.begin("no room")
            except ClaudeError:
                assert state(tmp_path, timeline, talk) == was
                assert timeline.path.read_bytes() == written
            else:
                break
    assert counting.count >= number > 3 or counting.count < number
    assert timeline.checkpoints[-1].words == "no room"
    await timeline.close()


async def test_a_prompt_that_is_cancelled_while_it_is_noted_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(tmp_path)
    timeline, talk = await open_one(tmp_path)
    await Rewinder(timeline, talk).rewind(3)
    was, written = state(tmp_path, timeline, talk), timeline.path.read_text()
    writing, go_on, save = threading.Event(), threading.Event(), Record.save

    def slowly(record: Record, path: Path) -> None:
        writing.set()
        assert go_on.wait(PATIENCE)
        save(record, path)

    monkeypatch.setattr(Record, "save", slowly)
    beginning = asyncio.create_task(timeline.begin("stop"))
    await asyncio.to_thread(writing.wait, PATIENCE)
    for _ in range(2):
        beginning.cancel()
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([beginning])
    assert beginning.cancelled()
    assert state(tmp_path, timeline, talk) == was
    assert timeline.path.read_text() == written
    await timeline.close()


async def test_a_stop_while_a_turn_is_noted_loses_nothing_of_it(tmp_path: Path) -> None:
    timeline, talk = await open_one(tmp_path)
    number = await timeline.begin("hello")
    (tmp_path / "project" / "a.txt").write_text("1")
    ending = timeline.end(number, anchor=talk.say("hello"), head=talk.head)
    assert await cancelled(ending, 1)
    await timeline.close()
    again, talk = await open_one(tmp_path)
    assert again.checkpoints[0].files == ("a.txt",)
    await Rewinder(again, talk).rewind(1)
    assert look(tmp_path / "project") == {}
    await again.close()


async def cancelled(doing: Coroutine[Any, Any, object], pauses: int) -> bool:
    """Cancel it after so many rounds of the loop, and again; whether that was what came of it."""
    task = asyncio.create_task(doing)
    for _ in range(pauses):
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    return task.cancelled()


async def test_a_rewind_that_is_cancelled_is_done_or_not(tmp_path: Path) -> None:
    await build(tmp_path)
    timeline, talk = await open_one(tmp_path)
    was = state(tmp_path, timeline, talk)
    done = set()
    for pauses in range(0, 60, 3):
        started = asyncio.create_task(Rewinder(timeline, talk).rewind(2))
        for _ in range(pauses):
            await asyncio.sleep(0.001)
        started.cancel()
        await asyncio.sleep(0)
        started.cancel()
        await asyncio.wait([started])
        now = state(tmp_path, timeline, talk)
        done.add(now != was)
        if now != was:
            assert now["history"] == ["first"]
            assert now["rewinds"] == 1
            await Rewinder(timeline, talk).undo()
            assert state(tmp_path, timeline, talk) == was
        assert not timeline.journal.exists()
    assert done == {True, False}
    await timeline.close()


# Journals


@pytest.mark.parametrize("damage", ['{"version": 99, "id": "x"}', '{"id": "x"}', "{", "[]", "\0"])
async def test_a_journal_of_another_version_stops_everything_with_a_sentence(
    damage: str, tmp_path: Path
) -> None:
    await build(tmp_path)
    timeline, talk = await open_one(tmp_path)
    was = state(tmp_path, timeline, talk)
    timeline.journal.write_text(damage)
    rewinder = Rewinder(timeline, talk)
    for doing in (rewinder.recover, lambda: rewinder.rewind(2), rewinder.undo):
        with pytest.raises(ClaudeError, match=r"one\.rewind\) cannot be read.*Move the file"):
            await doing()
    assert state(tmp_path, timeline, talk) == was
    assert timeline.journal.read_text() == damage
    timeline.journal.unlink()
    await rewinder.rewind(2)
    await timeline.close()


async def test_what_a_journal_needs_is_not_dropped_meanwhile(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await left_half_done(home)
    # Another conversation in the folder, days later.
    now = SnapshotLimits(spared_seconds=0, collect_seconds=0)
    other = Snapshots(home / "store", home / "project", limits=now)
    other.keep("another", [other.take()])
    other.close()
    await finds_all_as_before(home)


async def finds_all_as_before(home: Path, more: dict[str, list[object]] | None = None) -> None:
    timeline, talk = await open_one(home)
    await Rewinder(timeline, talk).recover()
    now = state(home, timeline, talk)
    assert now["checkpoints"] == [1, 2, 3]
    shutil.rmtree(home)
    await timeline.close()
    await build(home)
    expected = look(home / "project")
    for name in more or ():
        expected.pop(name.split("/in the way")[0], None)
    assert now["files"] == {**expected, **(more or {})}


async def test_what_stands_in_the_way_of_a_recovery_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await left_half_done(home)
    place = home / "project" / "new" / "new.txt"
    place.mkdir(parents=True)
    (place / "in the way").write_text("the user's")
    await finds_all_as_before(home, {"new/new.txt/in the way": ["the user's", False]})


async def test_a_recovery_that_cannot_be_says_what_to_do(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await left_half_done(home)
    shutil.rmtree(home / "store")
    timeline, talk = await open_one(home)
    with pytest.raises(ClaudeError, match=r"cut off.*move .*one\.rewind away") as caught:
        await Rewinder(timeline, talk).recover()
    assert str(caught.value).endswith(".")
    timeline.journal.unlink()
    await Rewinder(timeline, talk).recover()
    await timeline.close()


# Folders


async def test_without_its_folder_only_the_conversation_is_rewound(tmp_path: Path) -> None:
    await build(tmp_path)
    timeline, talk = await open_one(tmp_path)
    project = tmp_path / "project"
    shutil.rmtree(project)
    rewinder = Rewinder(timeline, talk)
    for wish in (Wish(), Wish(force=True), Wish(conversation=False)):
        with pytest.raises(RewindRefused, match=r"There is no folder.*--conversation"):
            await rewinder.rewind(2, wish)
    assert len(talk.history) == 3
    await rewinder.rewind(3, Wish(files=False))
    await turn(timeline, talk, "without a folder", lambda: None)
    project.mkdir()
    # All that Claude's turns had changed was removed by another hand.
    with pytest.raises(RewindRefused) as caught:
        await rewinder.rewind(2)
    assert "changed.txt" in caught.value.conflicts
    plan = await rewinder.rewind(2, Wish(force=True))
    assert {one.kind for one in plan.files} == {"added"}
    assert look(project)["changed.txt"] == ["1\n", False]
    assert list(talk.history) == ["first"]
    await turn(timeline, talk, "again", writes(project / "changed.txt", "3"))
    await rewinder.rewind(2)
    assert look(project)["changed.txt"] == ["1\n", False]
    await timeline.close()


async def test_what_changed_while_nothing_could_be_snapshotted_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline, talk = await open_one(tmp_path)
    path = tmp_path / "project" / "a.txt"
    await turn(timeline, talk, "first", writes(path, "claude's"))
    with monkeypatch.context() as patch:

        def refuse(_: Snapshots) -> str:
            raise CannotSnapshot("The folder holds too much.")

        patch.setattr(Snapshots, "take", refuse)
        path.write_text("the user's")
        await turn(timeline, talk, "second", lambda: None)
    await turn(timeline, talk, "third", lambda: None)
    with pytest.raises(RewindRefused) as caught:
        await Rewinder(timeline, talk).rewind(1)
    assert caught.value.conflicts == ("a.txt",)
    assert path.read_text() == "the user's"
    await timeline.close()


async def test_an_open_link_and_what_it_leads_to_are_not_overwritten(tmp_path: Path) -> None:
    timeline, talk = await open_one(tmp_path)
    project = tmp_path / "project"
    (project / "real.ipynb").write_text("1")
    (project / "link.ipynb").symlink_to("real.ipynb")

    def change() -> None:
        (project / "real.ipynb").write_text("2")
        (project / "link.ipynb").unlink()
        (project / "link.ipynb").symlink_to("./real.ipynb")

    await turn(timeline, talk, "first", change)
    wish = Wish(force=True, protected=[project / "link.ipynb"])
    plan = await Rewinder(timeline, talk).rewind(1, wish)
    assert {name for name, _ in plan.kept} == {"real.ipynb", "link.ipynb"}
    assert (project / "real.ipynb").read_text() == "2"
    await timeline.close()


# Claude Code's own checkpoints, where a folder cannot be snapshotted


class Own(Talk):
    """Stands for a conversation with checkpoints of its own."""

    def __init__(self, sessions: Sessions, files: dict[Path, str | None]) -> None:
        super().__init__(sessions, None)
        self._files = files

    async def rewind_own_files(self, anchor: Pointer) -> None:
        for path, text in self._files.items():
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)


async def own_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Timeline, Own]:
    """A home folder as workspace, in which a turn has changed one file and made another."""
    project = tmp_path / "project"
    monkeypatch.setenv("HOME", str(project))
    timeline, _ = await open_one(tmp_path)
    changed, new = project / "changed", project / "new"
    changed.write_text("1")
    talk = Own(Sessions(tmp_path / "sessions"), {changed: "1", new: None})
    number = await timeline.begin("first")
    assert timeline.refusal is not None
    anchor = talk.say("first")
    changed.write_text("2")
    new.write_text("new")
    head = talk.head
    await timeline.end(number, anchor=anchor, head=head, edited=[changed, new])
    return timeline, talk


async def test_own_checkpoints_are_rewound_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline, talk = await own_one(tmp_path, monkeypatch)
    undo = Rewinder(timeline, talk).undo
    project = tmp_path / "project"
    plan = await Rewinder(timeline, talk).rewind(1)
    assert "home folder" in plan.note
    assert look(project) == {"changed": ["1", False]}
    (project / "changed").write_text("the user's")
    with pytest.raises(RewindRefused) as caught:
        await undo()
    assert caught.value.conflicts == (str(project / "changed"),)
    assert look(project) == {"changed": ["the user's", False]}
    (project / "changed").write_text("1")
    await undo()
    assert look(project) == {"changed": ["2", False], "new": ["new", False]}
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["one.json", "one.lock"]
    await timeline.close()


async def test_copies_that_are_gone_are_missed_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline, talk = await own_one(tmp_path, monkeypatch)
    undo = Rewinder(timeline, talk).undo
    await Rewinder(timeline, talk).rewind(1)
    (copies,) = (tmp_path / "kept").glob("*.copies")
    shutil.rmtree(copies)
    with pytest.raises(RewindRefused, match="copies of them"):
        await undo()
    await timeline.close()


@pytest.mark.parametrize("fault", ["fails once", "is full"])
async def test_own_checkpoints_too_are_rewound_wholly_or_not(
    fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline, talk = await own_one(tmp_path, monkeypatch)
    undo = Rewinder(timeline, talk).undo
    was, done = state(tmp_path, timeline, talk), False
    for number in range(1, 200):
        rewinder = Rewinder(timeline, talk)
        try:
            with effects(number, fault) as counting:
                await rewinder.rewind(1)
        except (ClaudeError, OSError):
            await rewinder.recover()
            assert state(tmp_path, timeline, talk) == was, number
        else:
            done = True
            assert look(tmp_path / "project") == {"changed": ["1", False]}
            await undo()
            assert state(tmp_path, timeline, talk) == was, number
        if counting.count < number:
            break
    assert done
    await timeline.close()
