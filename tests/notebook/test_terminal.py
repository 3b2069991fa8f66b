"""`%%claude` in terminal IPython, typed into a pseudo-terminal."""

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.notebook.kernels import PATIENCE, claude_processes, roles_and_texts

pexpect = pytest.importorskip("pexpect")  # IPython brings it where there are pseudo-terminals


class Terminal:
    """An interactive IPython; `text` is what it printed for the last cell."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        arguments = ["-m", "IPython", "--no-banner", "--simple-prompt", "--colors=NoColor"]
        self.child = pexpect.spawn(
            sys.executable,
            arguments,
            env={**env, "TERM": "dumb"},
            cwd=str(cwd),
            encoding="utf-8",
            timeout=PATIENCE,
            echo=False,
            # Whoever starts tests in the background has their programs ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.text = ""
        self._cells = 0
        self.wait()

    def start(self, code: str) -> None:
        """Type a cell; blank lines end a cell magic."""
        self.child.sendline(f"{code}\n\n" if "\n" in code else code)

    def wait(self) -> str:
        """Wait for the next prompt, and return what was printed before it."""
        self._cells += 1
        self.child.expect(rf"\nIn \[{self._cells}\]: ")
        self.text = self.child.before.replace("\r", "").replace("   ...: ", "").strip("\n")
        return self.text

    def run(self, code: str) -> str:
        """Run a cell and return what it printed."""
        self.start(code)
        return self.wait()


@pytest.fixture
def terminal(env: dict[str, str], home: Path) -> Iterator[Terminal]:
    """An interactive IPython in which the extension is loaded."""
    running = Terminal(env, home)
    assert running.run("%load_ext jupyter_ccapi") == ""
    yield running
    running.child.close(force=True)


def test_the_raw_text_is_written_as_it_comes(terminal: Terminal, model: OfflineModel) -> None:
    """Markdown stays as it was written, and a footer follows on a line of its own."""
    gate = threading.Event()
    model.script(Reply("Some **bold** text.\n\nAnd more.", thinking="Hm.", hold=gate))
    terminal.start("%%claude\nHello.")
    terminal.child.expect("Thinking…")
    gate.set()

    lines = terminal.wait().strip().splitlines()
    assert lines[:3] == ["Some **bold** text.", "", "And more."]
    assert lines[3].startswith("[claude-")
    assert len(lines) == 4


def test_a_part_of_the_text_is_there_while_the_model_still_speaks(
    terminal: Terminal, model: OfflineModel
) -> None:
    """The model is held after its first word."""
    gate = threading.Event()
    model.script(Reply("First second.", hold=gate))
    terminal.start("%%claude\nHello.")
    terminal.child.expect("First ")
    gate.set()
    assert terminal.wait().startswith("second.\n[")


def test_ctrl_c_ends_the_turn_and_the_next_cell_goes_on(
    terminal: Terminal, model: OfflineModel
) -> None:
    """As the stop button does in a notebook."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    terminal.start("%%claude\nTell me a story.")
    terminal.child.expect("Once ")
    terminal.child.sendintr()
    terminal.wait()

    assert "[Stopped · claude-" in terminal.text
    assert terminal.text.endswith("Stopped. The conversation goes on with the next %%claude cell.")
    model.wait_for(lambda request: request.closed_early)
    assert "Here." in terminal.run("%%claude\n[[say Here.]]")
    assert ("user", "Tell me a story.") in roles_and_texts(model.main_requests[-1].messages)


def test_ctrl_c_is_pythons_own_again_after_the_cell(terminal: Terminal) -> None:
    """A cell that computes is interrupted as ever."""
    terminal.run("%%claude\n[[say Hi.]]")
    terminal.start("import time; print('computing', flush=True); time.sleep(60)")
    terminal.child.expect("computing")
    terminal.child.sendintr()
    assert "KeyboardInterrupt" in terminal.wait()


def test_a_failed_turn_is_one_line(terminal: Terminal, model: OfflineModel) -> None:
    """The sentence, and no traceback."""
    model.script(Reply(error=ApiError(500, "", "The model broke.")))
    assert "The model broke" in terminal.run("%%claude --mode chat\nHello.")
    assert len(terminal.text.strip().splitlines()) == 1


def test_leaving_is_silent_and_ends_the_processes(terminal: Terminal, home: Path) -> None:
    """No warning, no traceback, exit code 0."""
    terminal.run("%%claude\n[[say Hi.]]")
    terminal.child.sendline("exit")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()

    assert terminal.child.before.strip() == ""
    assert terminal.child.exitstatus == 0
    assert claude_processes(home) == []
