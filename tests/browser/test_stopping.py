"""The stop button ends a turn wherever it is, and the next cell goes on."""

import re
import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.browser.page import NotebookPage
from tests.notebook.kernels import roles_and_texts

pytestmark = pytest.mark.browser

STOPPED = "Stopped. The conversation goes on with the next %%claude cell."
BUSY = "busy = open('busy', 'w').close() or 1\nwhile True:\n    pass\n"


def goes_on(notebook: NotebookPage, model: OfflineModel) -> list[tuple[str, str]]:
    """Ask whether Claude is there, see the answer; return what the model was told."""
    model.script(Reply("**Here** I am."))
    after = notebook.ask("%%claude\nAre you there?")
    expect(notebook.outputs(after).locator("strong")).to_have_text("Here")
    notebook.wait_until_run(after)
    said = roles_and_texts(model.main_requests[-1].messages)
    assert said[-1] == ("user", "Are you there?")
    return said


def test_the_stop_button_ends_an_answer(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """One line says so; the model is read no more, and is told the turn with the next one."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    story = notebook.ask("%%claude\nTell me a long story.")
    outputs = notebook.outputs(story)
    expect(outputs.first).to_have_text("Once")
    notebook.stop()

    expect(outputs.nth(1)).to_contain_text(re.compile(r"^\s*Stopped · claude-"))
    expect(outputs.nth(2)).to_have_text(STOPPED)
    expect(outputs).to_have_count(3)
    model.wait_for(lambda request: request.closed_early)
    notebook.wait_until_run(story)
    shot(notebook, "stopped")
    assert ("assistant", "Once ") in goes_on(notebook, model)


def test_the_stop_button_takes_an_approval_away(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """Nothing that could be clicked stays, and what was asked about does not happen."""
    model.script(Reply("I make it.", tools=[("Bash", {"command": "touch made.txt"})]))
    asked = notebook.ask("%%claude\nMake a file.")
    expect(notebook.approval(asked)).to_have_count(1)
    notebook.stop()
    notebook.wait_until_run(asked)

    expect(notebook.outputs(asked).last).to_have_text(STOPPED)
    expect(notebook.approval(asked)).to_have_count(0)
    expect(notebook.cell(asked).locator(".jupyter-widgets")).to_have_count(0)
    shot(notebook, "stopped")
    assert "waiting" not in notebook.cell(asked).inner_text().lower()
    goes_on(notebook, model)
    assert not (notebook.folder / "made.txt").exists()


def test_the_stop_button_ends_a_busy_loop_in_the_kernel(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """Code of run_python that never ends: it is shown that it runs, and it is ended."""
    model.script(Reply("I compute.", tools=[("mcp__client__run_python", {"code": BUSY})]))
    asked = notebook.ask("%%claude --tools 'run_python(*)'\nCompute for ever.")
    notebook.wait_for_file("busy")
    shown = notebook.texts(asked)
    shot(notebook, "running")
    notebook.stop()
    notebook.wait_until_run(asked)

    expect(notebook.outputs(asked).last).to_have_text(STOPPED)
    shot(notebook, "stopped")
    seen = notebook.asked("busy")
    assert notebook.texts(seen) == ["1"]
    goes_on(notebook, model)
    assert shown[0] == "I compute."
    assert re.match(r"run_python\s.*\srunning…$", shown[1], re.DOTALL)
