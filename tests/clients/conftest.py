"""One real server process for all clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.servers import Server, jupyter_server


@pytest.fixture(scope="module")
def module_model() -> Iterator[OfflineModel]:
    """The model behind the server."""
    with OfflineModel() as running:
        yield running


@pytest.fixture
def model(module_model: OfflineModel) -> OfflineModel:
    """The same model, with an empty log."""
    module_model.clear()
    return module_model


@pytest.fixture(scope="module")
def server(
    module_model: OfflineModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A plain Jupyter server, as `jupyter server` starts it."""
    home: Path = tmp_path_factory.mktemp("home")
    (home / "project").mkdir()
    with jupyter_server(module_model, home) as running:
        yield running
