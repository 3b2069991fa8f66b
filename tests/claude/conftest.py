"""Pools for the tests, and a look at what they leave behind."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude import CLI, Capabilities, Limits, Options, Pool, find_cli
from jupyter_ccapi.claude.capabilities import PUBLIC
from jupyter_ccapi.claude.memory import Memory, read_memory
from jupyter_ccapi.demo import OfflineModel
from tests.claude.support import clis
from tests.conftest import WARM

#: What the real CLI can do; test_capabilities.py holds the probe to it.
ALL = Capabilities(**dict.fromkeys(Capabilities.__dataclass_fields__, True))

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(
    model: OfflineModel, home: Path, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> Iterator[MakePool]:
    """Makes pools with the given limits. After the test they are closed; then no process may be
    left, no task, and no error that nobody has seen.
    """
    pools: list[Pool] = []
    complaints: list[dict[str, Any]] = []
    jp_asyncio_loop.set_exception_handler(lambda _, context: complaints.append(context))
    # What there was before is not looked through again and again: that takes the SDK's many
    # classes 0.2 seconds a test.
    gc.freeze()

    def make(
        *,
        find: Callable[[], CLI] = find_cli,
        environment: Mapping[str, str] | None = None,
        able: Capabilities | None = None,
        memory: Callable[[], Memory] = read_memory,
        **limits: Any,
    ) -> Pool:
        variables = {**model.environment(home), **(environment or {})}
        # A stand-in can do what is public, the real one all.
        found = able or (ALL if find is find_cli else PUBLIC)

        async def probe(cli: CLI) -> Capabilities:
            return found

        # Without spares, so that a test knows the processes; those about spares say so.
        chosen = Limits(**{"warm": WARM, "spares": 0, **limits})
        pools.append(Pool(chosen, find=find, environment=variables, probe=probe, memory=memory))
        return pools[-1]

    yield make
    for pool in pools:
        jp_asyncio_loop.run_until_complete(pool.close())
    assert clis(home) == []
    # Turns that the test did not wait for see now that their pool is closed.
    tasks = asyncio.all_tasks(jp_asyncio_loop)
    if tasks:
        jp_asyncio_loop.run_until_complete(asyncio.wait(tasks, timeout=10))
    assert not asyncio.all_tasks(jp_asyncio_loop)
    del tasks
    gc.collect()
    assert complaints == []


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    """A pool of real CLIs."""
    return make_pool()


@pytest.fixture
def chat(home: Path) -> Options:
    """Chat in the home's folder."""
    return Options(cwd=home / "project")


@pytest.fixture
def agent(home: Path) -> Options:
    """An agent in the home's folder that may run commands."""
    return Options(mode="agent", cwd=home / "project", sdk={"allowed_tools": ["Bash"]})
