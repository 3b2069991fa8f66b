"""A browser, and JupyterLab with an offline model behind its kernels."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.browser.lab import ARGUMENTS, CHROMIUM, PATIENCE, Lab
from tests.notebook.kernels import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.browser.page import NotebookPage

# The extra `test` does without: these tests are deselected by default and need the extra `dev`.
if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

SCREENSHOTS = os.environ.get("CCAPI_SCREENSHOTS", "")
"""A folder for pictures of what the tests see; none are taken without it."""


@pytest.fixture(autouse=True)
def jp_asyncio_loop() -> None:
    """Playwright runs an event loop in this thread; pytest-jupyter's would close it."""


@pytest.fixture(autouse=True)
def jp_server_cleanup() -> None:
    """The server under test is a process of its own."""


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium, without a window."""
    from playwright.sync_api import expect, sync_playwright

    if not CHROMIUM:
        pytest.fail("There is no chromium on PATH; install it, or name it in $CHROMIUM.")
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def new_page(browser: "Browser") -> "Iterator[Callable[[], Page]]":
    """Makes pages that nobody else has left anything in."""
    contexts = []

    def make() -> "Page":
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def running_model() -> Iterator[OfflineModel]:
    """An offline model that answers as fast as it can."""
    with OfflineModel() as running:
        yield running


@pytest.fixture
def model(running_model: OfflineModel) -> Iterator[OfflineModel]:
    """The offline model, its log empty; what a test left held is let go after it."""
    running_model.clear()
    yield running_model
    running_model.release()


@pytest.fixture(scope="session")
def lab(running_model: OfflineModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab, with a home and a folder of its own."""
    home: Path = tmp_path_factory.mktemp("home")
    running = Lab(environment(running_model, home), home)
    yield running
    running.close()


@pytest.fixture(scope="session")
def window(browser: "Browser", lab: Lab) -> "Iterator[Page]":
    """JupyterLab in a page: loading it takes longer than anything that is done there."""
    from tests.browser.page import load

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    load(page, lab, "")
    yield page
    context.close()


@pytest.fixture
def opens(
    window: "Page", lab: Lab, model: OfflineModel, request: pytest.FixtureRequest
) -> "Iterator[Callable[..., NotebookPage]]":
    """Opens a copy of a notebook, or a new one, in a folder and with a kernel of its own, and has
    the extension loaded there.
    """
    from tests.browser.page import NotebookPage

    opened: list[NotebookPage] = []

    def new(original: Path | None = None) -> NotebookPage:
        name = request.node.name.removeprefix("test_")
        opened.append(NotebookPage.new(window, lab, f"{name}/work.ipynb", original))
        return opened[-1]

    yield new
    model.release()
    for notebook in opened:
        notebook.close()


@pytest.fixture
def notebook(opens: "Callable[..., NotebookPage]") -> "NotebookPage":
    """A new notebook."""
    return opens()


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> "Callable[[NotebookPage, str], None]":
    """Takes a picture of a notebook, on light and on dark, if $CCAPI_SCREENSHOTS is a folder."""

    def take(notebook: "NotebookPage", name: str) -> None:
        if SCREENSHOTS:
            test = request.node.name.removeprefix("test_")
            notebook.picture(Path(SCREENSHOTS) / f"{test}-{name}")

    return take
