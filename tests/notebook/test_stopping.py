"""The stop button ends the turn, not the conversation."""

import signal
import threading
import time
from pathlib import Path

import psutil

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import Kernel, claude_processes, roles_and_texts


def test_the_stop_button_ends_the_turn_and_the_next_cell_goes_on(
    kernel: Kernel, model: OfflineModel
) -> None:
    """What was shown stays, the model is read no more, and it is told later what was said."""
    model.script(Reply("Hello Ann."), Reply("Once upon a time", hold=threading.Event()))
    kernel.run("%%claude\nI am Ann.")
    cell = kernel.start("%%claude\nTell me a story.")
    cell.wait_until(lambda shown: shown.answer == "Once ")
    kernel.interrupt()
    cell.finish()

    assert cell.status == "error"
    assert cell.error["ename"] == "TurnStopped"
    assert cell.error["traceback"] == [
        "Stopped. The conversation goes on with the next %%claude cell."
    ]
    assert cell.answer == "Once "
    assert cell.lines[-1].startswith("Stopped · claude-")
    model.wait_for(lambda request: request.closed_early)

    model.script(Reply("You are Ann."))
    assert kernel.run("%%claude\nWho am I?").answer == "You are Ann."
    said = roles_and_texts(model.main_requests[-1].messages)
    assert said[:3] == [
        ("user", "I am Ann."),
        ("assistant", "Hello Ann."),
        ("user", "Tell me a story."),
    ]
    assert ("assistant", "Once ") in said
    assert said[-1] == ("user", "Who am I?")


def test_the_process_goes_on_too(kernel: Kernel, model: OfflineModel, home: Path) -> None:
    """An interrupt costs no cold start, and SIGINT does not reach Claude Code itself."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    cell = kernel.start("%%claude\nTell me a story.")
    cell.wait_until(lambda shown: shown.answer == "Once ")
    before = claude_processes(home)
    kernel.interrupt()
    cell.finish()
    kernel.run("%%claude\n[[say Here.]]")

    assert len(before) == 1
    assert claude_processes(home) == before


def test_stopping_before_the_first_word(kernel: Kernel, model: OfflineModel) -> None:
    """While Claude Code still starts: no line that waits is left, and the next cell works."""
    cell = kernel.start("%%claude\nTell me a story.")
    cell.wait_until(lambda shown: shown.lines)
    kernel.interrupt()
    cell.finish()

    assert cell.error["ename"] == "TurnStopped"
    assert [line.split(" · ")[0] for line in cell.lines] == ["Stopped"]
    assert kernel.run("%%claude\n[[say Here.]]").answer == "Here."


def test_stopping_a_model_that_only_thinks(kernel: Kernel, model: OfflineModel) -> None:
    """Its thoughts so far are kept, folded."""
    model.script(Reply("Four.", thinking="Two and two", hold=threading.Event()))
    cell = kernel.start("%%claude\nTwo and two?")
    cell.wait_until(lambda shown: shown.lines == ["Thinking… Two"])
    kernel.interrupt()
    cell.finish()

    thought, footer = cell.displays.values()
    assert "<p>Two</p>" in thought["text/html"]
    assert footer["text/plain"].startswith("Stopped")


def test_impatience_does_no_harm(kernel: Kernel, model: OfflineModel) -> None:
    """A stop button that is pressed many times stops one turn, once."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    cell = kernel.start("%%claude\nTell me a story.")
    cell.wait_until(lambda shown: shown.answer == "Once ")
    for _ in range(5):
        kernel.interrupt()
        time.sleep(0.02)  # some come when the turn has ended
    assert cell.finish().error["ename"] == "TurnStopped"
    assert kernel.run("%%claude\n[[say Still here.]]").answer == "Still here."


def test_a_second_press_does_not_wait_for_a_claude_code_that_hangs(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """The cell ends while the core still deals with it; the next cell has a process that works."""
    model.script(Reply("Hello Ann."), Reply("Once upon a time", hold=threading.Event()))
    kernel.run("%%claude\nI am Ann.")
    cell = kernel.start("%%claude\nTell me a story.")
    cell.wait_until(lambda shown: shown.answer == "Once ")
    (process,) = claude_processes(home)
    process.send_signal(signal.SIGSTOP)
    kernel.interrupt()
    cell.wait_until(lambda shown: shown.lines[-1] == "Stopping…")
    kernel.interrupt()
    cell.finish()

    assert cell.error["ename"] == "TurnStopped"
    assert process.status() == psutil.STATUS_STOPPED
    assert kernel.run("%%claude\n[[say Here.]]").answer == "Here."
    assert ("assistant", "Hello Ann.") in roles_and_texts(model.main_requests[-1].messages)
