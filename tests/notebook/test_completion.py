"""Tab completion of the magics' options: as a function, in a shell, and over a kernel's wire."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jupyter_ccapi.notebook.command_table import CLAUDE
from jupyter_ccapi.notebook.completion import Names, complete
from tests.notebook.kernels import PATIENCE, Kernel

NAMES = Names(
    models=("opus", "sonnet", "claude-opus-4-1"),
    conversations=("analysis", "my plot"),
    sessions=("0aef12bc-1",),
    checkpoints=(1, 2, 12),
)
VARIABLES: dict[str, Any] = {
    "frame": [1],
    "form": {"type": "object"},
    "Form": type("Form", (), {}),
    "pathlib": ModuleType("pathlib"),
    "found": len,
}


def completions(line: str) -> list[str]:
    """What a line may go on with; the fragment is always its end."""
    fragment, found = complete(line, VARIABLES, lambda: NAMES)
    assert line.endswith(fragment)
    return [line.removesuffix(fragment) + text for text, _ in found]


def after(line: str) -> list[str]:
    """What may stand in the place of a line's last word."""
    start = line.rfind(" ") + 1
    return [whole[start:] for whole in completions(line)]


def test_every_option_is_offered_by_its_long_name() -> None:
    """In the order of the help; behind one dash the short names too."""
    longs = [option.flags[-1] for option in CLAUDE.table]
    assert after("%%claude ") == after("%claude ") == longs
    assert after("%%claude --") == longs
    assert after("%%claude -") == [flag for option in CLAUDE.table for flag in option.flags]
    assert after("%%claude --mo") == ["--model", "--mode"]


def test_an_option_is_offered_once_unless_it_may_be_repeated() -> None:
    """By either of its names."""
    assert after("%%claude -m opus --mo") == ["--mode"]
    assert after("%%claude --image a.png -v frame --im") == ["--image"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%%claude -m ", ["opus", "sonnet", "claude-opus-4-1"]),
        ("%%claude -q --model cl", ["claude-opus-4-1"]),
        ("%%claude --model=so", ["--model=sonnet"]),
        ("%%claude --mode ", ["chat", "agent"]),
        ("%%claude -p ac", ["acceptEdits"]),
        ("%%claude --effort m", ["medium", "max"]),
        ("%%claude -c ", ["analysis", '"my plot"']),
        ("%%claude -c m", ['"my plot"']),
        ("%%claude --resume a", ["analysis"]),
        ("%%claude --resume 0", ["0aef12bc-1"]),
        ("%%claude --fork 1", ["1", "12"]),
        ("%%claude -v f", ["form", "frame"]),
        ("%%claude -o ", ["form", "frame"]),
        ("%%claude --schema ", ["Form", "form"]),
        ("%%claude --budget ", []),
        ("%%claude Hel", []),
        ("%claude -m o", ["opus"]),
        ("%claude --resume a", []),
        ("%claude --resume=a", ["--resume=analysis"]),
        ("%claude --resume 0", ["0aef12bc-1"]),
        ("%claude tell me -", []),
        ("%claude --resume tell -", []),
        ("    %claude -m o", ["opus"]),
        ("%claude_rewind 1", ["1", "12"]),
        ("%claude_rewind --d", ["--dry-run"]),
        ("%claude_rewind 2 -c a", ["analysis"]),
        ("%claude_checkpoints -", ["-c"]),
        ("%claude_status ", []),
        ("%claudette -", []),
        ("print(1) #%claude -", []),
    ],
)
def test_values_are_offered(line: str, offered: list[str]) -> None:
    """Models, choices, names, variables: what the option takes."""
    assert after(line) == offered


def test_a_value_that_may_be_left_out_is_offered_beside_the_options() -> None:
    """First the values; for a rewind the checkpoint's number."""
    assert after("%%claude --resume ")[:4] == [
        "analysis",
        '"my plot"',
        "0aef12bc-1",
        "--conversation",
    ]
    assert after("%claude_rewind ")[:4] == ["1", "2", "12", "--undo"]
    assert "1" not in after("%claude_rewind 2 ")
    assert "--files" in after("%claude_rewind 2 ")


def test_what_was_begun_with_a_quote_ends_with_it() -> None:
    """The quote is a part of what is replaced."""
    assert complete('%%claude -c "my', {}, lambda: NAMES) == ('"my', [('"my plot"', "text")])
    assert complete("%%claude -c 'an", {}, lambda: NAMES) == ("'an", [("'analysis'", "text")])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of several kinds lie."""
    for name in ("plot.png", "my plot.jpg", "notes.txt", "servers.json", ".hidden.png", "talk.md"):
        (tmp_path / name).touch()
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.PNG").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_files_are_offered_with_their_folders() -> None:
    """Those that the option can use."""
    assert after("%%claude -i p") == ["pics/", "plot.png"]
    assert after("%%claude -i ") == ["form", "frame", '"my plot.jpg"', "pics/", "plot.png"]
    assert after("%%claude -i pics/") == ["pics/a.PNG"]
    assert after("%%claude -i ~/pl") == ["~/plot.png"]
    assert after("%%claude -i .h") == [".hidden.png"]
    assert after("%%claude -i none/") == []
    assert after("%%claude --mcp ") == ["pics/", "servers.json"]
    assert after("%claude_export t") == ["talk.md"]
    assert complete('%%claude -i "my', {}, lambda: NAMES)[1] == [('"my plot.jpg"', "path")]


SETUP = """
from jupyter_ccapi.notebook import completion as _completion
_names = lambda: _completion.Names(models=("opus", "sonnet"), conversations=("analysis",))
_completion.install(get_ipython(), _names)
_completion.install(get_ipython(), _names)
frame, os = [1], __import__("os")
def completed(cell, offset=None):
    return get_ipython().complete(None, cell, offset)
"""


@pytest.fixture
def completing_kernel(running_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel whose shell completes our options; it does not any more afterwards."""
    assert running_kernel.run(SETUP).status == "ok"
    yield running_kernel
    running_kernel.run("_completion.remove(get_ipython())")
    assert completed(running_kernel, "%%claude --mo") == []


def completed(kernel: Kernel, code: str) -> list[str]:
    """What the kernel offers at the end of a cell, as the whole cells that would come of it."""
    reply = kernel.client.complete(code, reply=True, timeout=PATIENCE)["content"]
    assert reply["cursor_end"] == len(code)
    return [code[: reply["cursor_start"]] + match for match in reply["matches"]]


def test_a_kernel_completes_the_first_line(completing_kernel: Kernel) -> None:
    """Nothing of IPython's own stands between."""
    assert completed(completing_kernel, "%%claude --mo") == ["%%claude --model", "%%claude --mode"]
    assert completed(completing_kernel, "%%claude -m ") == [
        "%%claude -m opus",
        "%%claude -m sonnet",
    ]
    assert completed(completing_kernel, "%%claude -c an") == ["%%claude -c analysis"]
    assert completed(completing_kernel, "%%claude -v f") == ["%%claude -v frame"]
    assert completed(completing_kernel, "x = 1\n%claude_rewind --f") == [
        "x = 1\n%claude_rewind --files",
        "x = 1\n%claude_rewind --force",
    ]


def test_a_kernel_completes_the_rest_by_itself(completing_kernel: Kernel) -> None:
    """The prompt below the line, and cells that are none of ours."""
    assert "%%claude\n%claude --model" not in completed(completing_kernel, "%%claude\n%claude --mo")
    assert completed(completing_kernel, "%%claude -m opus\nos.getlog") == [
        "%%claude -m opus\nos.getlogin"
    ]
    assert completed(completing_kernel, "fram") == ["frame"]


def test_a_shell_completes_it_too(completing_kernel: Kernel) -> None:
    """By the call that terminals make; installed twice, it is there once."""
    cell = completing_kernel.run("print(completed('%%claude --mo'))")
    assert cell.stdout == "('--mo', ['--model', '--mode'])\n"
    count = "[m.matcher_identifier for m in get_ipython().Completer.custom_matchers]"
    assert completing_kernel.run(f"print({count}.count('jupyter_ccapi'))").stdout == "1\n"
