"""One real server process for all tests of a client, and the table of what works with which."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.clients import environments, table
from tests.servers import Server, jupyter_server

_CELLS = pytest.StashKey[dict[tuple[str, str], table.Cell]]()


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


@pytest.fixture(scope="session")
def instructor_python() -> Path:
    """A Python that has instructor."""
    return environments.instructor_python()


@pytest.fixture(scope="session")
def node() -> Path:
    """Node, with the packages of its clients."""
    return environments.node()


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks mean."""
    config.addinivalue_line("markers", "client(name): the client that a module of tests is about")
    config.addinivalue_line(
        "markers", "feature(name, supported=True): the feature that a test shows, or shows missing"
    )
    config.stash[_CELLS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what came of a test of a feature."""
    report = yield
    client = item.get_closest_marker("client")
    for feature in item.iter_markers("feature"):
        assert client is not None, f"{item.nodeid} does not say which client it is about"
        if report.when == "call" or not report.passed:
            supported = feature.kwargs.get("supported", True)
            cell: table.Cell = "yes" if supported else "no"
            if report.outcome != "passed":
                cell = report.outcome
            key = (feature.args[0], client.args[0])
            table.note(item.config.stash[_CELLS], key, cell)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table as this run filled it; `-` was not asked for."""
    if cells := config.stash[_CELLS]:
        terminalreporter.section("clients and features")
        terminalreporter.line(table.markdown(cells))
