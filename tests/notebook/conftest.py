"""A running offline model, and a real kernel that knows it: one of each for a module's tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.notebook.kernels import Kernel, environment


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
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HOME of its own for kernels and their Claude Code, and the folder that they run in."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def env(running_model: OfflineModel, home: Path) -> dict[str, str]:
    """The environment of whatever runs IPython."""
    return environment(running_model, home)


@pytest.fixture(scope="module")
def running_kernel(env: dict[str, str], home: Path) -> Iterator[Kernel]:
    """A real kernel."""
    running = Kernel(env, home)
    yield running
    running.shut_down()


@pytest.fixture
def kernel(running_kernel: Kernel) -> Kernel:
    """The kernel, the extension loaded anew: no conversation, no option of the test before."""
    running_kernel.run("_ = get_ipython().config.pop('ClaudeMagics', None)")
    assert running_kernel.run("%reload_ext jupyter_ccapi").status == "ok"
    return running_kernel


@pytest.fixture(scope="module")
def running_worker(env: dict[str, str], home: Path) -> Iterator[Kernel]:
    """A real kernel in a folder that can be snapshotted, as a home folder cannot."""
    (home / "work").mkdir(exist_ok=True)
    running = Kernel(env, home / "work")
    yield running
    running.shut_down()


@pytest.fixture
def folder(home: Path) -> Path:
    """The worker's folder, empty."""
    folder = home / "work"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.fixture
def worker(running_worker: Kernel, folder: Path) -> Kernel:
    """The worker, the extension loaded anew; its folder is empty, and nobody is asked anything."""
    running_worker.run("_ = get_ipython().config.pop('ClaudeMagics', None)")
    assert running_worker.run("%reload_ext jupyter_ccapi").status == "ok"
    running_worker.run("%config ClaudeMagics.approvals = 'deny'")
    return running_worker


@pytest.fixture
def own_kernel(model: OfflineModel, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel for one test, which may end it."""
    running = Kernel(environment(model, tmp_path), tmp_path)
    assert running.run("%load_ext jupyter_ccapi").status == "ok"
    yield running
    running.shut_down()
