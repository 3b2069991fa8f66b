"""Several processes on one database at once."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_ccapi.store import LeaseTimeout, Store
from tests.store.programs import go, run_together, start


def test_a_new_database_is_made_once(
    url: str, store: Store, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> None:
    run_together(url, *[("open",)] * 3)
    page = jp_asyncio_loop.run_until_complete(store.conversations.list("ann"))
    assert len(page.items) == 3


def test_both_write_and_nothing_is_lost(
    url: str, store: Store, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> None:
    made = jp_asyncio_loop.run_until_complete(store.conversations.create("ann"))
    key, secret = jp_asyncio_loop.run_until_complete(store.keys.create("ann", "laptop"))
    run_together(
        url,
        ("append", made.id, "one", "40"),
        ("append", made.id, "two", "40"),
        ("spend", key.id, "40"),
        ("spend", key.id, "40"),
    )
    messages = jp_asyncio_loop.run_until_complete(store.conversations.messages("ann", made.id))
    for name in ("one", "two"):
        own = [one.content for one in messages if str(one.content).startswith(name)]
        assert own == [f"{name} {n}" for n in range(40)]
    spent = jp_asyncio_loop.run_until_complete(store.keys.verify(secret))
    assert spent is not None
    assert spent.spent_usd == 80


def test_one_at_a_time_goes_on_with_a_conversation(url: str, store: Store, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    works = [("hold", "conv_x", name, "20", str(notes)) for name in ("one", "two", "three")]
    run_together(url, *works)
    lines = notes.read_text().splitlines()
    assert len(lines) == 3 * 20 * 2
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert begin.removesuffix("begins") == end.removesuffix("ends")


def test_what_a_killed_process_held_is_free_soon(
    url: str, make_store: Callable[..., Store], jp_asyncio_loop: asyncio.AbstractEventLoop
) -> None:
    process = start(url, "keep", "conv_x")
    go(process)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    store = make_store(url)

    async def hold(patience: float) -> None:
        async with store.leases.hold("conv_x", "me", patience=patience):
            pass

    with pytest.raises(LeaseTimeout, match="the program"):
        jp_asyncio_loop.run_until_complete(hold(0))
    jp_asyncio_loop.run_until_complete(hold(30))
