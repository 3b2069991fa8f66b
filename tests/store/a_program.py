"""A program that uses the store, for tests with several processes: ``URL WORK ARGUMENTS…``.

It prints a line when it is ready and begins when its stdin says so.
"""

import asyncio
import sys
from importlib import import_module
from pathlib import Path

from jupyter_ccapi.store import Store


async def append(store: Store, conversation: str, name: str, number: str) -> None:
    """Say so many things in a conversation of ann's."""
    for n in range(int(number)):
        await store.conversations.append("ann", conversation, [("user", f"{name} {n}")])


async def spend(store: Store, key: str, number: str) -> None:
    """Spend a dollar so many times."""
    for _ in range(int(number)):
        await store.keys.spend(key, 1.0)


async def open_it(store: Store) -> None:
    """Do what has a new database made."""
    await store.conversations.create("ann")


async def hold(store: Store, conversation: str, name: str, number: str, file: str) -> None:
    """Hold a conversation so many times, and write down when it begins and ends."""
    for _ in range(int(number)):
        async with store.leases.hold(conversation, name, patience=60):
            _note(file, f"{name} begins")
            await asyncio.sleep(0)
            _note(file, f"{name} ends")


async def keep(store: Store, conversation: str) -> None:
    """Hold a conversation until this process is killed; it is free some seconds later."""
    async with store.leases.hold(conversation, "the program", patience=60):
        print("held", flush=True)
        await asyncio.Event().wait()


def _note(file: str, line: str) -> None:
    with Path(file).open("a") as notes:
        notes.write(line + "\n")


async def main(url: str, work: str, *arguments: str) -> None:
    """Do the work that is named."""
    # What takes long is done before, so that all begin in the same moment.
    import_module("alembic.command")
    import_module("jupyter_ccapi.store.migrate")
    print("ready", flush=True)
    sys.stdin.readline()
    store = Store(url, lease_ttl=3.0)
    works = {"append": append, "spend": spend, "open": open_it, "hold": hold, "keep": keep}
    await works[work](store, *arguments)  # type: ignore[operator]
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
