"""Checkpoints and rewind: files and conversation as they were before a prompt, both or neither."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import Conversation, Options, Pool, TextDelta
from jupyter_ccapi.claude.errors import ClaudeError, ProcessDied, RewindRefused
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.record import Record
from jupyter_ccapi.claude.rewinding import Rewinder, Wish
from jupyter_ccapi.claude.snapshots import Snapshots
from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.support import conversation_sent, held, transcripts, until

Open = Callable[..., Awaitable[Conversation]]


@pytest.fixture
def project(home: Path) -> Path:
    folder = home / "project"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def editing(project: Path) -> Options:
    """An agent that may edit and run commands."""
    return Options(
        mode="agent",
        cwd=project,
        sdk={"permission_mode": "acceptEdits", "allowed_tools": ["Bash"]},
    )


@pytest.fixture
def open_one(pool: Pool, editing: Options, home: Path) -> Open:
    """Opens a conversation with checkpoints; by its id again, as after a restart."""

    async def open_one(id: str = "one", options: Options = editing) -> Conversation:
        kept, store = home / "kept", home / "snapshots"
        timeline = await Timeline.open(kept, id, workspace=options.cwd, store=store)
        return Conversation(pool, options, id=id, timeline=timeline)

    return open_one


def look(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


async def rewind(one: Conversation, number: int, /, **wish: Any) -> Plan:
    return await one.rewinding(lambda rewinder: rewinder.rewind(number, Wish(**wish)))


async def undo(conversation: Conversation) -> Plan:
    return await conversation.rewinding(Rewinder.undo)


async def write(conversation: Conversation, model: OfflineModel, name: str, text: str) -> None:
    """One turn, in which Claude writes a file."""
    assert conversation.options.cwd is not None
    folder = conversation.options.cwd
    path = str(folder / name)
    read = [Reply(tools=[("Read", {"file_path": path})])] if name in look(folder) else []
    written = Reply(tools=[("Write", {"file_path": path, "content": text})])
    model.clear()
    model.script(*read, written, Reply(f"Wrote {name}."))
    await conversation.send(f"Write {name}").finish()
    assert look(folder)[name] == text


def cut(transcript: Path, prompt: str) -> None:
    """Take a prompt, and all that came after it, from a transcript."""
    lines = transcript.read_text().splitlines(keepends=True)
    said = [
        isinstance(entry := json.loads(line), dict)
        and entry.get("type") == "user"
        and entry["message"]["content"] == prompt
        for line in lines
    ]
    kept = lines[: said.index(True)]
    transcript.write_text("".join(kept)) if any(
        '"uuid"' in one for one in kept
    ) else transcript.unlink()


async def test_a_rewind_restores_files_and_conversation_and_undo_takes_it_back(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    (project / "mine.txt").write_text("mine\n")
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    model.script(Reply(tools=[("Bash", {"command": "echo 2 > a.txt; rm mine.txt"})]), Reply("Ran."))
    end = await conversation.send("Run").finish()
    assert end.checkpoint == 2
    assert look(project) == {"a.txt": "2\n"}
    await write(conversation, model, "b.txt", "3\n")
    assert conversation.timeline is not None
    first, second, third = conversation.timeline.checkpoints
    assert (first.files, second.files, third.files) == (
        ("a.txt",),
        ("a.txt", "mine.txt"),
        ("b.txt",),
    )
    assert (second.insertions, second.deletions) == (1, 2)

    plan = await rewind(conversation, 2)
    assert [(one.path, one.kind) for one in plan.files] == [
        ("a.txt", "modified"),
        ("b.txt", "deleted"),
        ("mine.txt", "added"),
    ]
    assert [one.number for one in plan.undone] == [2, 3]
    assert look(project) == {"a.txt": "1\n", "mine.txt": "mine\n"}
    model.clear()
    await undo(conversation)
    assert look(project) == {"a.txt": "2\n", "b.txt": "3\n"}
    await conversation.send("And?").finish()
    told = conversation_sent(model.main_requests[-1])
    assert [text for role, text in told if role == "user"][-1] == "And?"
    assert ("assistant", "Wrote b.txt.") in told

    await rewind(conversation, 2)
    model.clear()
    end = await conversation.send("Instead").finish()
    assert end.checkpoint == 2
    told = conversation_sent(model.main_requests[-1])
    assert ("assistant", "Wrote a.txt.") in told
    assert not [text for _, text in told if "Ran." in text or "Wrote b" in text or "And?" in text]
    with pytest.raises(RewindRefused, match="none was done since"):
        await undo(conversation)


async def test_to_the_first_prompt_nothing_is_left_of_the_conversation(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    await rewind(conversation, 1)
    assert look(project) == {}
    model.clear()
    await conversation.send("Hello").finish()
    assert conversation_sent(model.main_requests[-1])[:-1] == []


async def test_files_or_conversation_alone(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    await write(conversation, model, "a.txt", "2\n")
    await rewind(conversation, 2, conversation=False)
    assert look(project) == {"a.txt": "1\n"}
    await write(conversation, model, "b.txt", "3\n")
    assert ("user", "Write a.txt") in conversation_sent(model.main_requests[-1])[2:]
    assert [one.number for one in conversation.timeline.checkpoints] == [1, 2, 3]  # type: ignore[union-attr]
    await rewind(conversation, 2, files=False)
    assert look(project) == {"a.txt": "1\n", "b.txt": "3\n"}
    model.clear()
    await conversation.send("Hello").finish()
    assert "Wrote b.txt" not in str(conversation_sent(model.main_requests[-1]))


async def test_what_another_hand_has_changed_is_not_overwritten_unless_it_must_be(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    await write(conversation, model, "b.txt", "1\n")
    (project / "notes.txt").write_text("user's\n")
    plan = await rewind(conversation, 1)
    assert [name for name, _ in plan.kept] == ["notes.txt"]
    assert look(project) == {"notes.txt": "user's\n"}
    await undo(conversation)

    (project / "a.txt").write_text("1\nuser's\n")
    before = look(project)
    with pytest.raises(RewindRefused, match=r"a\.txt.*--force") as caught:
        await rewind(conversation, 1)
    assert caught.value.conflicts == ("a.txt",)
    assert look(project) == before
    model.clear()
    await conversation.send("There?").finish()
    assert "Wrote b.txt." in str(conversation_sent(model.main_requests[-1]))

    await rewind(conversation, 1, force=True)
    assert look(project) == {}
    await undo(conversation)
    assert look(project) == before


async def test_an_open_file_is_never_overwritten(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    conversation = await open_one()
    await write(conversation, model, "open.ipynb", "{}\n")
    wish = Wish(force=True, protected=(project / "open.ipynb",))
    plan = await conversation.rewinding(lambda one: one.rewind(1, wish))
    ((name, why),) = plan.kept
    assert (name, "reload" in why) == ("open.ipynb", True)
    assert look(project) == {"open.ipynb": "{}\n"}


async def test_after_a_restart_the_conversation_goes_on_and_can_be_rewound(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    await write(conversation, model, "b.txt", "2\n")
    await conversation.close()
    again = await open_one()
    await rewind(again, 2)
    assert look(project) == {"a.txt": "1\n"}
    await again.close()
    once_more = await open_one()
    model.clear()
    end = await once_more.send("And now?").finish()
    assert end.checkpoint == 2
    told = str(conversation_sent(model.main_requests[-1]))
    assert "Wrote a.txt." in told
    assert "Wrote b.txt." not in told


async def test_a_failed_and_an_interrupted_turn_are_checkpoints_too(
    open_one: Open, model: OfflineModel, project: Path
) -> None:
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    model.script(
        Reply(tools=[("Bash", {"command": "echo 2 > a.txt"})]),
        *[Reply(error=ApiError(400, "", "No."))] * 9,
    )
    with pytest.raises(ClaudeError):
        await conversation.send("Fail").finish()
    model.clear()
    model.script(held("one two three"))
    turn = conversation.send("Stop me")
    await until(turn, TextDelta)
    await turn.interrupt()
    await write(conversation, model, "c.txt", "4\n")
    assert conversation.timeline is not None
    assert [one.words for one in conversation.timeline.checkpoints] == [
        "Write a.txt",
        "Fail",
        "Stop me",
        "Write c.txt",
    ]
    await rewind(conversation, 3)
    assert look(project) == {"a.txt": "2\n"}
    await rewind(conversation, 2)
    assert look(project) == {"a.txt": "1\n"}
    model.clear()
    await conversation.send("Hello").finish()
    told = conversation_sent(model.main_requests[-1])
    assert [text for role, text in told if role == "user" and "Fail" in text] == []
    assert ("assistant", "Wrote a.txt.") in told


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("first", [True, False])
async def test_a_turn_whose_process_was_killed_can_be_rewound(
    open_one: Open,
    model: OfflineModel,
    project: Path,
    pool: Pool,
    home: Path,
    first: bool,
    written: bool,
) -> None:
    conversation = await open_one()
    if not first:
        await write(conversation, model, "a.txt", "1\n")
    before = look(project)
    model.script(Reply(tools=[("Bash", {"command": "echo 2 > a.txt"})]), held("one two three"))
    turn = conversation.send("Change it")
    await until(turn, TextDelta)
    psutil.Process(pool.pids()[0]).kill()
    if not written:
        # The disk has not got what was written last.
        cut(transcripts(home)[0], "Change it")
    with pytest.raises(ProcessDied):
        await turn.finish()
    model.clear()
    await conversation.send("And?").finish()
    told = [text for _, text in conversation_sent(model.main_requests[-1])]
    assert any("Change it" in text for text in told) == written

    assert look(project) == {"a.txt": "2\n"}
    number = 1 if first else 2
    await rewind(conversation, number)
    assert look(project) == before
    model.clear()
    await conversation.send("Hello").finish()
    told = [text for _, text in conversation_sent(model.main_requests[-1])]
    assert not [text for text in told if "Change it" in text or "And?" in text]
    assert any("Wrote a.txt." in text for text in told) != first


async def test_a_prompt_that_never_got_to_claude_is_no_checkpoint(
    open_one: Open, model: OfflineModel, editing: Options
) -> None:
    conversation = await open_one()
    conversation.options = replace(editing, effort="enormous")
    with pytest.raises(ClaudeError, match="enormous"):
        await conversation.send("Hello").finish()
    assert conversation.timeline is not None
    assert conversation.timeline.checkpoints == []


async def test_while_a_turn_runs_nothing_is_rewound(open_one: Open, model: OfflineModel) -> None:
    from jupyter_ccapi.claude import TextDelta

    conversation = await open_one()
    model.script(held("one two three"))
    turn = conversation.send("Talk")
    await until(turn, TextDelta)
    with pytest.raises(RewindRefused, match="A turn is running"):
        await rewind(conversation, 1)
    model.release()
    await turn.finish()
    with pytest.raises(RewindRefused, match=r"no checkpoint 7.*1 to 1"):
        await rewind(conversation, 7)


@pytest.mark.parametrize("where", ["restore", "save", "before"])
async def test_where_one_part_fails_neither_is_done(
    where: str,
    open_one: Open,
    model: OfflineModel,
    project: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    await write(conversation, model, "b.txt", "2\n")
    before = look(project)
    assert conversation.timeline is not None
    with monkeypatch.context() as patch:
        if where == "restore":
            patch.setattr(Snapshots, "restore", _fails_once(Snapshots.restore))
        elif where == "save":
            patch.setattr(Record, "save", _fails)
        else:
            for path in (home / ".claude").rglob("*.jsonl"):
                path.unlink()
        with pytest.raises(ClaudeError):
            await rewind(conversation, 2)
    assert look(project) == before
    assert [one.number for one in conversation.timeline.checkpoints] == [1, 2]
    assert not list((home / "kept").glob("*.rewind"))


def _fails_once(restore: Callable[..., None]) -> Callable[..., None]:
    failures = [ClaudeError("The disk is full.")]

    def restore_or_fail(*given: Any, **more: Any) -> None:
        if failures:
            raise failures.pop()
        restore(*given, **more)

    return restore_or_fail


def _fails(record: Record, path: Path) -> None:
    raise ClaudeError("The disk is full.")


async def test_where_the_end_of_a_turn_cannot_be_kept_its_answer_is_not_lost(
    open_one: Open, model: OfflineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await open_one()
    model.script(Reply("Here."), Reply("Again."))
    with monkeypatch.context() as patch:
        patch.setattr(Timeline, "end", _cannot_end)
        end = await conversation.send("One").finish()
    assert (end.text, end.checkpoint) == ("Here.", None)


async def _cannot_end(timeline: Timeline, *_: Any, **__: Any) -> None:
    timeline._hold.busy = False
    raise ClaudeError("The disk is full.")


async def test_a_first_turn_that_nobody_saw_end_is_gone_on_with(
    open_one: Open, model: OfflineModel, home: Path
) -> None:
    """Its kernel was gone in the middle; the record says where it stood."""
    conversation = await open_one()
    model.script(held("one two three"))
    turn = conversation.send("First")
    await until(turn, TextDelta)
    kept = (home / "kept" / "one.json").read_bytes()
    await turn.interrupt()
    await conversation.close()
    assert conversation.timeline is not None
    await conversation.timeline.close()
    (home / "kept" / "one.json").write_bytes(kept)
    again = await open_one()
    model.release()
    model.clear()
    await again.send("Second").finish()
    told = conversation_sent(model.main_requests[-1])
    assert ("user", "First") in [(role, text.split("\n")[0]) for role, text in told]


async def test_a_conversation_that_goes_on_in_another_folder_rewinds_no_files_of_the_first(
    open_one: Open, model: OfflineModel, project: Path, home: Path, editing: Options
) -> None:
    """In the new one it does; a rewind that would leave files behind is refused as a whole."""
    conversation = await open_one()
    await write(conversation, model, "a.txt", "1\n")
    other = home / "other"
    other.mkdir()
    assert conversation.timeline is not None
    conversation.timeline.work_in(other)
    conversation.options = replace(editing, cwd=other)
    await write(conversation, model, "b.txt", "2\n")
    with pytest.raises(RewindRefused, match="--conversation"):
        await rewind(conversation, 1)
    assert (look(project), look(other)) == ({"a.txt": "1\n"}, {"b.txt": "2\n"})
    await rewind(conversation, 2)
    assert (look(project), look(other)) == ({"a.txt": "1\n"}, {})
