"""A notebook in JupyterLab, and the few things that a person does with it."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import PATIENCE, TOKEN, Lab

LOAD = "%load_ext jupyter_ccapi"

_NEW = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "load",
            "metadata": {},
            "outputs": [],
            "source": LOAD,
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
_NUMBER = re.compile(r"\[\d+\]")
_READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.isReady && panel.sessionContext?.isReady &&
        panel.sessionContext.session?.kernel?.status === 'idle';
}"""
# At each frame that is drawn: where each output of a cell is within it, and how high they all are.
_WATCH = """index => {
    const cell = window.jupyterapp.shell.currentWidget.content.widgets[index].node;
    const watch = window.ccapiWatch = {frames: [], going: true};
    const look = () => {
        const top = cell.getBoundingClientRect().top;
        const outputs = [...cell.querySelectorAll('.jp-OutputArea-child')].map(output => {
            const place = output.getBoundingClientRect();
            const text = output.querySelector('.jp-OutputArea-output')?.innerText ?? '';
            return [place.top - top, place.height, text];
        });
        const area = cell.querySelector('.jp-Cell-outputArea');
        const frame = JSON.stringify([area.getBoundingClientRect().height, outputs]);
        if (frame !== watch.frames.at(-1)) watch.frames.push(frame);
        if (watch.going) requestAnimationFrame(look);
    };
    look();
}"""


class Drawn(NamedTuple):
    """An output of a cell at one moment: where it begins, below the cell's own top, its height, in
    pixels, and its text.
    """

    top: float
    height: float
    text: str


class Frame(NamedTuple):
    """The outputs of a cell at one moment, and the height of all of them, in pixels."""

    height: float
    outputs: list[Drawn]


def load(page: Page, lab: Lab, path: str) -> None:
    """Load JupyterLab, in a workspace where nothing is left open, and a file in it."""
    tree = f"/tree/{path}" if path else ""
    page.goto(f"{lab.url}/lab/workspaces/tests{tree}?token={TOKEN}")
    page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
    page.wait_for_selector("#jupyterlab-splash", state="detached")


class NotebookPage:
    """A notebook that is open in JupyterLab, and the one that is looked at."""

    def __init__(self, page: Page, lab: Lab, path: str) -> None:
        self.page = page
        self.lab = lab
        self.path = path
        page.wait_for_function(_READY)

    @classmethod
    def new(cls, page: Page, lab: Lab, path: str, original: Path | None = None) -> "NotebookPage":
        """Make a notebook, or copy one, open it in a JupyterLab that is there, and load the
        extension.
        """
        file = lab.root / path
        file.parent.mkdir()
        if original is not None:
            shutil.copy(original, file)
        else:
            file.write_text(json.dumps(_NEW))
        page.evaluate(
            """async path => {
                const app = window.jupyterapp;
                const panel = await app.commands.execute('docmanager:open', {path});
                app.shell.activateById(panel.id);
                await panel.context.ready;
            }""",
            path,
        )
        notebook = cls(page, lab, path)
        loading = notebook.index(LOAD)
        notebook.run(loading)
        notebook.wait_until_run(loading)
        return notebook

    @classmethod
    def load(cls, page: Page, lab: Lab, path: str) -> "NotebookPage":
        """Load JupyterLab with a notebook that there is."""
        load(page, lab, path)
        return cls(page, lab, path)

    @property
    def folder(self) -> Path:
        """The notebook's folder, in which Claude Code works."""
        return (self.lab.root / self.path).parent

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

    def write(self, source: str) -> int:
        """Write a new cell at the end, and return its number."""
        index: int = self.page.evaluate(
            """source => {
                const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel;
                model.insertCell(model.cells.length, {cell_type: 'code', source});
                return model.cells.length - 1;
            }""",
            source,
        )
        return index

    def ask(self, source: str) -> int:
        """Write a new cell at the end, run it, and return its number."""
        index = self.write(source)
        self.run(index)
        return index

    def asked(self, source: str) -> int:
        """Write a new cell at the end, run it to its end, and return its number."""
        index = self.ask(source)
        self.wait_until_run(index)
        return index

    def sources(self) -> list[str]:
        """Return what stands in the cells."""
        found: list[str] = self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets.map(
                cell => cell.model.sharedModel.getSource())"""
        )
        return found

    def cell(self, index: int) -> Locator:
        """Return a cell."""
        panel = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        return panel.locator(".jp-Notebook .jp-Cell").nth(index)

    def outputs(self, index: int) -> Locator:
        """Return the outputs of a cell."""
        return self.cell(index).locator(".jp-OutputArea-child > .jp-OutputArea-output")

    def approval(self, index: int) -> Locator:
        """Return the cards of a cell on which a person is asked for permission."""
        return self.cell(index).locator(".ccapi-approval")

    def texts(self, index: int) -> list[str]:
        """Return what the outputs of a cell read as, one by one."""
        return [text.strip() for text in self.outputs(index).all_inner_texts()]

    def wait_until_idle(self) -> None:
        """Wait until the kernel has nothing more to do."""
        self.page.wait_for_function(_READY)

    def wait_until_run(self, index: int) -> None:
        """Wait until a cell has run: its prompt is a number."""
        expect(self.cell(index).locator(".jp-InputPrompt")).to_have_text(_NUMBER)

    def wait_for_file(self, name: str) -> None:
        """Wait until there is a file in the notebook's folder."""
        deadline = time.monotonic() + PATIENCE
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} does not come"
            self.page.wait_for_timeout(20)

    def stop(self) -> None:
        """Press the stop button of the toolbar."""
        panel = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        panel.locator('[data-command="notebook:interrupt-kernel"]').click()

    def save(self) -> None:
        """Save the notebook and wait until that is done."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def tab_to(self, words: str, most: int = 40) -> None:
        """Press Tab until the focus is on what is called so."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            focused = self.page.evaluate(
                "() => document.activeElement.placeholder || document.activeElement.innerText"
            )
            if focused.strip() == words:
                return
        raise AssertionError(f"{most} times Tab do not lead to {words!r}")

    @contextmanager
    def watched(self, index: int) -> "Iterator[list[Frame]]":
        """Yields a list that has, after the block, what was drawn of a cell's outputs within."""
        self.page.evaluate(_WATCH, index)
        frames: list[Frame] = []
        yield frames
        seen = self.page.evaluate(
            """() => {
                window.ccapiWatch.going = false;
                return window.ccapiWatch.frames.map(frame => JSON.parse(frame));
            }"""
        )
        frames += [Frame(height, [Drawn(*one) for one in outputs]) for height, outputs in seen]

    def picture(self, file: Path) -> None:
        """Take a picture on light and one on dark, as high as a long notebook."""
        file.parent.mkdir(parents=True, exist_ok=True)
        usual = self.page.viewport_size
        assert usual is not None
        self.page.set_viewport_size({"width": usual["width"], "height": 2 * usual["height"]})
        for theme in ("Dark", "Light"):
            self.page.evaluate(
                """async theme => {
                    const app = window.jupyterapp;
                    await app.commands.execute('apputils:change-theme', {theme});
                }""",
                f"JupyterLab {theme}",
            )
            light = "true" if theme == "Light" else "false"
            self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=f"{file}-{theme.lower()}.png")
        self.page.set_viewport_size(usual)

    def trusts(self, index: int) -> bool:
        """Tell whether a cell's outputs are trusted: made here, or signed by this user."""
        trusted: bool = self.page.evaluate(
            "index => window.jupyterapp.shell.currentWidget.content.widgets[index].model.trusted",
            index,
        )
        return trusted

    def end_kernel(self) -> None:
        """End the notebook's kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def close(self) -> None:
        """End the notebook's kernel, and close it without a question about what is not saved."""
        self.end_kernel()
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.dispose()")
