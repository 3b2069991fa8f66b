"""A notebook in JupyterLab, and the few things that a person does with it."""

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import TOKEN, Lab

_NUMBER = re.compile(r"\[\d+\]")


class NotebookPage:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self.page = page
        # A workspace of its own, so that nothing is restored that another test has left open.
        page.goto(f"{lab.url}/lab/workspaces/{Path(name).stem}/tree/{name}?token={TOKEN}")
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.wait_for_function(
            """() => {
                const panel = window.jupyterapp?.shell.currentWidget;
                return panel?.context?.isReady && panel.sessionContext?.isReady &&
                    panel.sessionContext.session?.kernel?.status === 'idle';
            }"""
        )

    def index(self, start: str) -> int:
        """Return the number of the first code cell whose source starts so."""
        found: int = self.page.evaluate(
            """start => window.jupyterapp.shell.currentWidget.content.widgets.findIndex(
                cell => cell.model.type === 'code' &&
                        cell.model.sharedModel.getSource().startsWith(start))""",
            start,
        )
        assert found >= 0, f"no code cell starts with {start!r}"
        return found

    def run(self, index: int) -> None:
        """Run a cell; its end is not waited for."""
        self.page.evaluate(
            """index => {
                const app = window.jupyterapp;
                app.shell.currentWidget.content.activeCellIndex = index;
                void app.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def ask(self, source: str) -> int:
        """Write a new cell at the end, run it, and return its number."""
        index: int = self.page.evaluate(
            """source => {
                const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel;
                model.insertCell(model.cells.length, {cell_type: 'code', source});
                return model.cells.length - 1;
            }""",
            source,
        )
        self.run(index)
        return index

    def outputs(self, index: int) -> Locator:
        """Return the outputs of a cell."""
        cell = self.page.locator(".jp-Notebook .jp-Cell").nth(index)
        return cell.locator(".jp-OutputArea-output")

    def wait_until_idle(self) -> None:
        """Wait until the kernel has nothing more to do."""
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
            " === 'idle'"
        )

    def wait_until_run(self, index: int) -> None:
        """Wait until a cell has run: its prompt is a number."""
        cell = self.page.locator(".jp-Notebook .jp-Cell").nth(index)
        prompt = cell.locator(".jp-InputPrompt")
        expect(prompt).to_have_text(_NUMBER)

    def stop(self) -> None:
        """Press the stop button of the toolbar."""
        self.page.locator('[data-command="notebook:interrupt-kernel"]').click()

    def save(self) -> None:
        """Save the notebook and wait until that is done."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
