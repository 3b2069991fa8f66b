"""A running offline model, a home for the CLI, and an environment without the user's own Claude."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.demo.http_client import Client


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


@pytest.fixture
def http(model: OfflineModel) -> Iterator[Client]:
    """A bare HTTP client of the offline model."""
    client = Client(model.url)
    yield client
    client.close()
