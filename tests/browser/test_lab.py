"""The manual's first notebook in JupyterLab: streamed, stopped, gone on with, saved."""

import re
import shutil
import threading

import pytest
from playwright.sync_api import Page, expect

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.browser.lab import Lab
from tests.browser.page import NotebookPage
from tests.notebook.kernels import ROOT, roles_and_texts

pytestmark = pytest.mark.browser

MANUAL = ROOT / "notebooks" / "01_first_steps.ipynb"


def opened(page: Page, lab: Lab, name: str) -> NotebookPage:
    """Open a copy of the first notebook, and load the extension in it."""
    shutil.copy(MANUAL, lab.root / name)
    notebook = NotebookPage(page, lab, name)
    notebook.run(notebook.index("%load_ext"))
    return notebook


def test_the_manuals_first_cell_streams_and_is_saved_as_it_looked(
    page: Page, lab: Lab, model: OfflineModel
) -> None:
    """Markdown is rendered while the model still speaks; opened again, the answer is there."""
    gate = threading.Event()
    model.script(Reply("Lists\u00a0are **mutable**, tuples are not.", hold=gate))
    notebook = opened(page, lab, "stream.ipynb")
    first = notebook.index("%%claude\nWhat")
    notebook.run(first)

    outputs = notebook.outputs(first)
    expect(outputs).to_have_count(1)
    expect(outputs.first).to_contain_text("Lists")
    expect(outputs.first).not_to_contain_text("mutable")
    gate.set()
    expect(outputs.first.locator("strong")).to_have_text("mutable")
    expect(outputs.nth(1)).to_contain_text("tokens in")
    notebook.wait_until_run(first)
    notebook.save()

    again = NotebookPage(page, lab, "stream.ipynb")
    outputs = again.outputs(first)
    expect(outputs).to_have_count(2)
    expect(outputs.first.locator("strong")).to_have_text("mutable")
    expect(outputs.nth(1)).to_contain_text("tokens in")


def test_the_stop_button_ends_the_turn_and_the_next_cell_goes_on(
    page: Page, lab: Lab, model: OfflineModel
) -> None:
    """One line says so; the model is read no more, and is told the turn with the next one."""
    model.script(Reply("Once upon a time", hold=threading.Event()), Reply("**Here** I am."))
    notebook = opened(page, lab, "stop.ipynb")
    story = notebook.index("%%claude\nTell me a long story")
    notebook.run(story)
    outputs = notebook.outputs(story)
    expect(outputs.first).to_have_text("Once")
    notebook.stop()

    expect(outputs.nth(1)).to_contain_text(re.compile(r"^\s*Stopped · claude-"))
    expect(outputs.nth(2)).to_have_text(
        "Stopped. The conversation goes on with the next %%claude cell."
    )
    model.wait_for(lambda request: request.closed_early)
    notebook.wait_until_run(story)

    after = notebook.ask("%%claude\nAre you there?")
    expect(notebook.outputs(after).first.locator("strong")).to_have_text("Here")
    said = roles_and_texts(model.main_requests[-1].messages)
    assert ("assistant", "Once ") in said
    assert said[-1] == ("user", "Are you there?")


def test_thoughts_unfold_with_a_click(page: Page, lab: Lab, model: OfflineModel) -> None:
    """They are folded at first, above the answer."""
    model.script(Reply("Four.", thinking="Two and two make four."))
    notebook = opened(page, lab, "think.ipynb")
    asked = notebook.ask("%%claude\nTwo and two?")
    notebook.wait_until_run(asked)

    thoughts = notebook.outputs(asked).first
    text = thoughts.get_by_text("Two and two make four.")
    expect(text).to_be_hidden()
    thoughts.locator("summary").click()
    expect(text).to_be_visible()


def test_a_failed_turn_stops_run_all(page: Page, lab: Lab, model: OfflineModel) -> None:
    """The cell shows one sentence; the cell after it does not run."""
    model.script(Reply(error=ApiError(529, "", "The model is overloaded.")))
    notebook = opened(page, lab, "fail.ipynb")
    page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    first = notebook.index("%%claude\nWhat")

    outputs = notebook.outputs(first)
    expect(outputs).to_have_count(1)
    expect(outputs.first).to_contain_text("The model is overloaded.")
    expect(outputs.first).not_to_contain_text("Traceback")
    notebook.wait_until_idle()
    expect(notebook.outputs(notebook.index("%%claude\nAnd when"))).to_have_count(0)
