"""What all tests share: an offline model, a home for the CLI, nothing of the user's Claude."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel

#: Whether the warm paths are on where a test does not say; `CCAPI_WARM=0 pytest` runs all without.
WARM = os.environ.get("CCAPI_WARM", "1") != "0"

pytest_plugins = ["pytest_jupyter.jupyter_server"]


@pytest.fixture(autouse=True)
def no_foreign_claude(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would lead a CLI to another model or another configuration."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "CLAUDE")):
            monkeypatch.delenv(name)


@pytest.fixture
def model() -> Iterator[OfflineModel]:
    """An offline model that answers as fast as it can."""
    with OfflineModel() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A HOME of its own for the CLI, with a folder `project` to work in."""
    (tmp_path / "project").mkdir()
    return tmp_path
