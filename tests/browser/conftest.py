"""A browser, and JupyterLab with an offline model behind its kernels."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.browser.lab import ARGUMENTS, CHROMIUM, PATIENCE, Lab
from tests.notebook.kernels import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The extra `test` does without: these tests are deselected by default and need the extra `dev`.
if importlib.util.find_spec("playwright") is None:
    collect_ignore = ["test_lab.py"]


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
def page(browser: "Browser") -> "Iterator[Page]":
    """A page of its own, that nobody else has left anything in."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def lab(running_model: OfflineModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab, with a home and a folder of its own."""
    home: Path = tmp_path_factory.mktemp("lab")
    running = Lab(environment(running_model, home), home)
    yield running
    running.close()
