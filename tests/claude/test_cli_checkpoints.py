"""Checkpoints on the real CLI: a preview of a rewind, told by the CLI or tried out, and a fork."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from claude_agent_sdk import AssistantMessage, ResultMessage

from jupyter_ccapi.claude import Options, cli_checkpoints, find_cli
from jupyter_ccapi.claude.capabilities import PUBLIC
from jupyter_ccapi.claude.cli_checkpoints import FilePreview, preview_files, rewind_files
from jupyter_ccapi.claude.errors import ClaudeError, CLIStartFailed, InvalidOption, ProcessDied
from jupyter_ccapi.claude.guard import Guard
from jupyter_ccapi.claude.history import Message, Session
from jupyter_ccapi.claude.launcher import Launcher
from jupyter_ccapi.claude.process import Process
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import ALL
from tests.claude.support import PATIENCE, as_sent, clis, messages_sent

#: The CLI tells it, or it is tried out.
WAYS = (ALL, PUBLIC)


@pytest.fixture
def launcher(model: OfflineModel, home: Path) -> Iterator[Launcher]:
    """Starts processes; nothing may be left of them."""
    guard = Guard()
    yield Launcher(guard, model.environment(home), PATIENCE)
    guard.close()
    assert clis(home) == []


@pytest.fixture
def process(
    launcher: Launcher, editing: Options, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> Iterator[Process]:
    """A process of an agent."""
    starting = launcher.start(find_cli(), editing, Session(str(uuid4())))
    started = jp_asyncio_loop.run_until_complete(starting)
    yield started
    jp_asyncio_loop.run_until_complete(started.close())


@pytest.fixture
def editing(home: Path) -> Options:
    """An agent that may edit files and run commands, with checkpoints."""
    return Options(
        mode="agent",
        cwd=home / "project",
        sdk={
            "enable_file_checkpointing": True,
            "allowed_tools": ["Write", "Edit", "Read", "Bash"],
            "permission_mode": "acceptEdits",
        },
    )


async def turn(process: Process, prompt: str) -> tuple[str, str]:
    """Have a turn; return its checkpoint, and the uuid of its last message."""
    checkpoint = last = None
    async for message in process.turn(prompt):
        if isinstance(message, AssistantMessage):
            last = message.uuid
        elif isinstance(message, ResultMessage):
            assert not message.is_error
            checkpoint = message.user_message_uuid
    assert checkpoint is not None
    assert last is not None
    return checkpoint, last


def look(folder: Path) -> dict[str, object]:
    """What is in a folder: folders, links, and files with their content, mode and time."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        times = None if path.is_dir() else status.st_mtime_ns
        found[str(path)] = (status.st_mode, times, content)
    return found


async def edit_much(process: Process, model: OfflineModel, project: Path) -> str:
    """Two turns that change, make and leave files; return the checkpoint of the second."""
    (project / "kept.bin").write_bytes(bytes(range(256)))
    (project / "script.sh").write_text("one\ntwo\nthree\n")
    (project / "script.sh").chmod(0o750)
    (project / "link").symlink_to("kept.bin")
    (project / "empty").mkdir()
    script, made = str(project / "script.sh"), project / "new folder" / "deep" / "made.txt"
    await turn(process, f'[[tool Read {{"file_path": "{script}"}}]]')
    model.script(
        Reply(
            tools=[
                ("Edit", {"file_path": script, "old_string": "two", "new_string": "2\n2.5"}),
                ("Write", {"file_path": str(made), "content": "a\nb\nc\n"}),
            ]
        ),
        Reply("done"),
    )
    checkpoint, _ = await turn(process, "Edit.")
    assert (project / "script.sh").read_text() == "one\n2\n2.5\nthree\n"
    assert made.read_text() == "a\nb\nc\n"
    return checkpoint


async def test_a_preview_tells_what_a_rewind_does_and_changes_nothing(
    process: Process, model: OfflineModel, home: Path
) -> None:
    project = home / "project"
    checkpoint = await edit_much(process, model, project)
    before = look(project)
    made, script = project / "new folder" / "deep" / "made.txt", project / "script.sh"
    for able in WAYS:
        preview = await preview_files(process, checkpoint, project, able=able)
        assert preview == FilePreview((made, script), insertions=1, deletions=5)
        assert look(project) == before
    # The CLI goes on as if nothing had been: it does not find its files changed by others.
    changed = {"file_path": str(script), "old_string": "2.5", "new_string": "2.75"}
    model.script(Reply(tools=[("Edit", changed)]), Reply("done"))
    await turn(process, "Edit again.")
    assert script.read_text() == "one\n2\n2.75\nthree\n"
    assert model.main_requests[-1].tool_results[0].error is False
    # And the checkpoint is still good.
    await rewind_files(process, checkpoint)
    assert script.read_text() == "one\ntwo\nthree\n"
    assert not made.exists()


async def test_what_commands_and_others_did_since_is_not_rewound_nor_lost(
    process: Process, home: Path
) -> None:
    project = home / "project"
    written = project / "written.txt"
    checkpoint, _ = await turn(
        process, f'[[write {written} one]][[then]][[tool Bash {{"command": "echo x > by_bash"}}]]'
    )
    written.unlink()
    (project / "by_hand").write_text("mine")
    before = look(project)
    assert "by_bash" in {Path(path).name for path in before}
    for able in WAYS:
        preview = await preview_files(process, checkpoint, project, able=able)
        assert preview == FilePreview((), insertions=0, deletions=0)
        assert look(project) == before


async def test_a_file_that_was_deleted_since_would_come_back_and_does_not_yet(
    process: Process, home: Path
) -> None:
    project = home / "project"
    written = project / "sub" / "written.txt"
    await turn(process, f"[[write {written} one\ntwo]]")
    checkpoint, _ = await turn(process, f"[[write {written} three]]")
    written.unlink()
    written.parent.rmdir()
    for able in WAYS:
        preview = await preview_files(process, checkpoint, project, able=able)
        assert preview == FilePreview((written,), insertions=2, deletions=0)
        assert look(project) == {}


async def test_a_file_elsewhere_is_told_or_left_as_it_is(
    process: Process, tmp_path: Path, home: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    written = tmp_path / "elsewhere" / "written.txt"
    checkpoint, _ = await turn(process, f"[[write {written} one]]")
    before = look(tmp_path / "elsewhere")
    assert before
    for able in WAYS:
        preview = await preview_files(process, checkpoint, home / "project", able=able)
        assert preview == FilePreview((written,), insertions=0, deletions=1)
        assert look(tmp_path / "elsewhere") == before


async def test_an_unknown_checkpoint_is_named_and_the_process_lives_on(
    process: Process, home: Path
) -> None:
    for able in WAYS:
        with pytest.raises(InvalidOption, match="'nothing': No file checkpoint found") as caught:
            await preview_files(process, "nothing", home / "project", able=able)
        assert caught.value.field == "checkpoint"
    await turn(process, "Are you there?")


async def test_no_folder_is_copied_that_is_too_large(
    process: Process, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = home / "project"
    checkpoint, _ = await turn(process, f"[[write {project / 'a.txt'} one]]")
    (project / "large").write_bytes(b"x" * 2000)
    before = look(project)
    for name, most in (("_MOST_BYTES", 2000), ("_MOST_FILES", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(cli_checkpoints, name, most)
            with pytest.raises(InvalidOption, match="holds too much") as caught:
                await preview_files(process, checkpoint, project, able=PUBLIC)
            assert caught.value.field == "folder"
    assert look(project) == before
    assert (await preview_files(process, checkpoint, project, able=PUBLIC)).deletions == 1


async def test_the_files_are_put_back_whatever_goes_wrong(
    process: Process, model: OfflineModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home / "tmp"))
    project = home / "project"
    checkpoint = await edit_much(process, model, project)
    before = look(project)

    async def cancelled(process: Process, checkpoint: str) -> None:
        await rewind_files(process, checkpoint)
        shutil.rmtree(project / "new folder")
        trying.cancel()
        await asyncio.sleep(0)

    monkeypatch.setattr(cli_checkpoints, "rewind_files", cancelled)
    trying = asyncio.create_task(preview_files(process, checkpoint, project, able=PUBLIC))
    with pytest.raises(asyncio.CancelledError):
        await trying
    assert look(project) == before

    def fail(old: bytes, new: bytes) -> tuple[int, int]:
        assert look(project) != before
        raise MemoryError

    monkeypatch.setattr(cli_checkpoints, "rewind_files", rewind_files)
    monkeypatch.setattr(cli_checkpoints, "_count", fail)
    with pytest.raises(MemoryError):
        await preview_files(process, checkpoint, project, able=PUBLIC)
    assert look(project) == before

    async def dies(process: Process, checkpoint: str) -> None:
        await rewind_files(process, checkpoint)
        process.kill()
        await rewind_files(process, checkpoint)

    monkeypatch.setattr(cli_checkpoints, "rewind_files", dies)
    with pytest.raises(ProcessDied):
        await preview_files(process, checkpoint, project, able=PUBLIC)
    assert look(project) == before
    assert not any((home / "tmp").glob("ccapi-preview-*"))


async def test_the_copies_stay_where_a_file_cannot_be_put_back(
    process: Process, model: OfflineModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home / "tmp"))
    project = home / "project"
    checkpoint = await edit_much(process, model, project)

    async def blocked(process: Process, checkpoint: str) -> None:
        """A folder stands where a file is to come back to."""
        await rewind_files(process, checkpoint)
        (project / "new folder" / "deep" / "made.txt").mkdir(parents=True)

    monkeypatch.setattr(cli_checkpoints, "rewind_files", blocked)
    with pytest.raises(ClaudeError, match="Copies of them are in") as caught:
        await preview_files(process, checkpoint, project, able=PUBLIC)
    (kept,) = (home / "tmp").glob("ccapi-preview-*")
    assert str(kept) in str(caught.value)
    assert b"a\nb\nc\n" in [path.read_bytes() for path in kept.iterdir() if path.is_file()]
    # All the others are back.
    assert (project / "script.sh").read_text() == "one\n2\n2.5\nthree\n"


async def test_without_a_transcript_there_are_no_checkpoints(
    launcher: Launcher, editing: Options, home: Path
) -> None:
    session = Session(str(uuid4()), persist=False)
    process = await launcher.start(find_cli(), editing, session)
    try:
        checkpoint, _ = await turn(process, f"[[write {home / 'project' / 'a.txt'} one]]")
        with pytest.raises(InvalidOption, match="No file checkpoint found"):
            await rewind_files(process, checkpoint)
    finally:
        await process.close()


@pytest.mark.parametrize("mode", ["chat", "agent"])
async def test_a_fork_goes_on_after_any_turn_as_if_the_rest_had_not_been(
    mode: str, launcher: Launcher, model: OfflineModel, editing: Options, home: Path
) -> None:
    options = editing if mode == "agent" else replace(editing, mode="chat", sdk={})
    options = replace(options, system_prompt="You are a pirate.")
    session = Session(str(uuid4()))
    model.script(Reply("Ahoy Ann."), Reply("Aye."), Reply("Arr."))
    process = await launcher.start(find_cli(), options, session)
    lasts = [(await turn(process, text))[1] for text in ("I am Ann.", "And now?", "And then?")]
    await process.close()
    (transcript,) = (home / ".claude").rglob(f"{session.id}.jsonl")
    before = transcript.read_bytes()
    forked = await launcher.fork_at(find_cli(), options, session.id, lasts[0])
    try:
        assert forked.session_id != session.id
        assert forked.held is None
        await turn(forked, "Who am I?")
    finally:
        await forked.close()
    sent = [
        (role, [block for block in blocks if "<system-reminder>" not in block.get("text", "")])
        for role, blocks in messages_sent(model.main_requests[-1])
    ]
    assert sent == as_sent(
        Message("user", "I am Ann."),
        Message("assistant", "Ahoy Ann."),
        Message("user", "Who am I?"),
    )
    assert model.main_requests[-1].system_text.endswith("You are a pirate.")
    assert transcript.read_bytes() == before
    assert list((home / ".claude").rglob(f"{forked.session_id}.jsonl"))


async def test_a_fork_keeps_the_checkpoints(
    launcher: Launcher, process: Process, editing: Options, home: Path
) -> None:
    project = home / "project"
    first, kept = await turn(process, f"[[write {project / 'a.txt'} one]]")
    second, _ = await turn(process, f"[[write {project / 'b.txt'} two]]")
    forked = await launcher.fork_at(find_cli(), editing, process.session_id, kept)
    try:
        await rewind_files(forked, second)
        assert list(look(project)) == [str(project / "a.txt")]
        await rewind_files(forked, first)
        assert look(project) == {}
    finally:
        await forked.close()


async def test_a_fork_after_what_is_not_there_does_not_start(
    launcher: Launcher, process: Process, editing: Options
) -> None:
    await turn(process, "One")
    with pytest.raises(CLIStartFailed, match="No message found"):
        await launcher.fork_at(find_cli(), editing, process.session_id, str(uuid4()))
    with pytest.raises(CLIStartFailed, match="No conversation found"):
        await launcher.fork_at(find_cli(), editing, str(uuid4()), str(uuid4()))
