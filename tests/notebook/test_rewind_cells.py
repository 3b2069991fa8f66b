"""Checkpoints and rewinding from cells: the folder, the conversation, and what is said of both."""

import json
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import Cell, Kernel, roles_and_texts

RUN = "mcp__client__run_python"
FIRST = "%%claude -p acceptEdits --tools 'Write,Edit,Bash(*),run_python(*)'"


def calls(tool: str, /, **given: Any) -> Reply:
    """A message of the model's that calls a tool."""
    return Reply(tools=[(tool, given)])


def writes(path: Path, content: str) -> Reply:
    """A message of the model's that writes a file."""
    return calls("Write", file_path=str(path), content=content)


def said(model: OfflineModel) -> list[str]:
    """All texts that the model was sent last."""
    return [text for _, text in roles_and_texts(model.main_requests[-1].messages)]


def contents(folder: Path) -> dict[str, str]:
    """What is in a folder."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def had(worker: Kernel, model: OfflineModel, folder: Path) -> Kernel:
    """A kernel that has had three prompts: one wrote a file, one a command, one ran Python."""
    model.script(
        writes(folder / "a.txt", "one\n"),
        Reply("Wrote."),
        calls("Bash", command="echo two >> a.txt; echo new > b.txt"),
        Reply("Echoed."),
        calls(RUN, code="x = 1\nopen('c.txt', 'w').write('three')"),
        Reply("Ran."),
    )
    worker.run("_ = globals().pop('x', None)")
    for line, prompt in ((FIRST, "Write it."), ("%%claude", "Echo it."), ("%%claude", "Run it.")):
        assert worker.run(f"{line}\n{prompt}").status == "ok"
    assert contents(folder) == {"a.txt": "one\ntwo\n", "b.txt": "new\n", "c.txt": "three"}
    return worker


def test_each_prompt_is_a_checkpoint(had: Kernel) -> None:
    """Number, time, first words, and what it has changed."""
    _, *lines = had.run("%claude_checkpoints").text.splitlines()

    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "Write it." in lines[0]
    assert "a.txt +1" in lines[0]
    assert "2 files +2" in lines[1]
    assert "c.txt" in lines[2]
    assert all(":" in line.split()[1] for line in lines)


def test_a_dry_run_shows_the_diff_and_changes_nothing(had: Kernel, folder: Path) -> None:
    """Which files, which prompts, which variables."""
    before = contents(folder)
    text = had.run("%claude_rewind 2 --dry-run").text

    assert text.startswith("A rewind to before prompt 2")
    assert "would do this" in text
    assert "-two" in text
    for name in ("a.txt", "b.txt", "c.txt"):
        assert name in text
    assert "Echo it." in text
    assert "stale: x" in text
    assert contents(folder) == before
    assert len(had.run("%claude_checkpoints").text.splitlines()) == 4


def test_a_rewind_restores_files_and_conversation(
    had: Kernel, model: OfflineModel, folder: Path
) -> None:
    """What Write, Bash and Python did; the next prompt is again number 2."""
    text = had.run("%claude_rewind 2").text
    assert "Rewound to before prompt 2" in text
    assert "Variables set by the undone turns are stale: x" in text
    assert "reload it from disk" in text
    assert contents(folder) == {"a.txt": "one\n"}

    cell = had.run("%%claude\n[[say Now.]]")
    assert said(model) == ["Write it.", "Wrote.", "[[say Now.]]"]
    assert "checkpoint 2" in cell.lines[-1]
    assert had.run("x").value == "1"


def test_undo_takes_a_rewind_back(had: Kernel, model: OfflineModel, folder: Path) -> None:
    """Files and conversation, until the next prompt."""
    before = contents(folder)
    had.run("%claude_rewind 1")
    assert contents(folder) == {}
    assert "would do this" in had.run("%claude_rewind --undo --dry-run").text
    assert contents(folder) == {}
    assert "was taken back" in had.run("%claude_rewind --undo").text
    assert contents(folder) == before

    had.run("%%claude\n[[say Now.]]")
    assert "Run it." in said(model)
    cell = had.run("%claude_rewind --undo")
    assert cell.failure == "There is no rewind to take back: none was done since the last prompt."


def test_files_alone_or_the_conversation_alone(
    had: Kernel, model: OfflineModel, folder: Path
) -> None:
    """The other one stays as it is."""
    before = contents(folder)
    had.run("%claude_rewind 2 --conversation")
    assert contents(folder) == before
    had.run("%%claude\n[[say Now.]]")
    assert "Echo it." not in said(model)

    had.run("%claude_rewind 1 --files")
    assert contents(folder) == {}
    had.run("%%claude\n[[say Now.]]")
    assert "Write it." in said(model)


def test_what_another_hand_has_changed_is_not_overwritten(had: Kernel, folder: Path) -> None:
    """Nothing is done, it is said which file it is, and `--force` does it."""
    (folder / "a.txt").write_text("mine\n")
    (folder / "mine.txt").write_text("mine\n")
    before = contents(folder)
    assert "would be refused" in had.run("%claude_rewind 1 --dry-run").text
    cell = had.run("%claude_rewind 1")
    assert "a.txt changed by another hand" in cell.failure
    assert "--force" in cell.failure
    assert contents(folder) == before
    assert len(had.run("%claude_checkpoints").text.splitlines()) == 4

    assert had.run("%claude_rewind 1 --force").status == "ok"
    assert "a.txt" not in contents(folder)


def test_the_open_notebook_is_never_overwritten(
    worker: Kernel, model: OfflineModel, folder: Path
) -> None:
    """Not even with `--force`; it is said what to do."""
    notebook = folder / "open.ipynb"
    notebook.write_text("{}")
    worker.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(notebook)!r}")
    change = "import pathlib; _ = pathlib.Path('open.ipynb').write_text('{\"a\": 1}')"
    model.script(calls(RUN, code=f"{change}\nopen('other.txt', 'w').close()"), Reply("Done."))
    worker.run("%%claude --tools 'run_python(*)'\nChange.")
    assert json.loads(notebook.read_text()) == {"a": 1}
    for line in ("%claude_rewind 1 --dry-run", "%claude_rewind 1 --force"):
        assert "open.ipynb: it is open: reload it" in worker.run(line).text
    worker.run("del os.environ['JPY_SESSION_NAME']")

    assert json.loads(notebook.read_text()) == {"a": 1}
    assert not (folder / "other.txt").exists()


def test_what_no_snapshot_has_is_said(worker: Kernel, model: OfflineModel, folder: Path) -> None:
    """Ignored files and nested repositories stay as the turn has left them."""
    (folder / ".gitignore").write_text("*.log\n")
    model.script(calls("Bash", command="echo x > a.log; echo x > a.txt"), Reply("Done."))
    worker.run(f"{FIRST}\nEcho.")
    text = worker.run("%claude_rewind 1").text

    assert "Not covered" in text
    assert "a.log" in text
    assert (folder / "a.log").exists()
    assert not (folder / "a.txt").exists()


def test_another_conversation_is_named(had: Kernel, model: OfflineModel, folder: Path) -> None:
    """`-c NAME`, with every one of them."""
    model.script(writes(folder / "d.txt", "four\n"), Reply("Wrote."))
    had.run(FIRST.replace("%%claude", "%%claude -c other") + "\nWrite d.")
    assert "Write d." in had.run("%claude_checkpoints -c other").text
    had.run("%claude_rewind 1 -c other")

    assert contents(folder).keys() == {"a.txt", "b.txt", "c.txt"}
    assert len(had.run("%claude_checkpoints").text.splitlines()) == 4


def test_a_number_that_is_none_is_a_sentence(had: Kernel) -> None:
    """It says which there are."""
    cell = had.run("%claude_rewind 7")
    assert cell.failure == "There is no checkpoint 7 in this conversation; it has 1 to 3."


def test_after_a_restart_the_notebooks_last_conversation_is_rewound(
    had: Kernel, model: OfflineModel, folder: Path
) -> None:
    """Here: after the extension was loaded anew, which ends all processes."""
    had.run("%reload_ext jupyter_ccapi")
    assert "Run it." in had.run("%claude_checkpoints").text
    assert had.run("%claude_rewind 3").status == "ok"
    assert contents(folder).keys() == {"a.txt", "b.txt"}

    had.run("%%claude\n[[say Now.]]")
    assert said(model)[-2:] == ["Echoed.", "[[say Now.]]"]


def test_in_a_home_folder_claude_codes_own_checkpoints_stand_in(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """What its tools wrote comes back, and it is said that a command's changes do not."""
    (home / "kept.txt").write_text("before\n")
    model.script(
        calls("Read", file_path=str(home / "kept.txt")),
        writes(home / "kept.txt", "after\n"),
        writes(home / "made.txt", "new\n"),
        calls("Bash", command="echo x > echoed.txt"),
        Reply("Done."),
    )
    kernel.run(f"{FIRST.replace('Write', 'Write,Read')}\nWork.")
    assert (home / "kept.txt").read_text() == "after\n"
    shown = kernel.run("%claude_rewind 1 --dry-run")
    assert "home folder" in shown.text
    assert "no commands" in shown.text
    assert (home / "kept.txt").read_text() == "after\n"

    done = kernel.run("%claude_rewind 1")
    assert_own(done)
    assert (home / "kept.txt").read_text() == "before\n"
    assert not (home / "made.txt").exists()
    assert (home / "echoed.txt").exists()
    assert kernel.run("%claude_rewind --undo").status == "ok"
    assert (home / "kept.txt").read_text() == "after\n"
    assert (home / "made.txt").read_text() == "new\n"


def assert_own(cell: Cell) -> None:
    """A rewind by Claude Code's own checkpoints says so."""
    assert cell.status == "ok"
    assert "Claude Code's own checkpoints stand in" in cell.text
    assert "Not covered" in cell.text


def test_an_undone_conversation_that_was_never_begun_is_a_sentence(kernel: Kernel) -> None:
    """There is nothing to list."""
    kernel.run("%%claude --new --mode chat -c fresh\n[[say Hi.]]")
    kernel.run("%claude_rewind 1 -c fresh")
    assert "No checkpoints yet" in kernel.run("%claude_checkpoints -c fresh").text
