"""A program that keeps processes warm: run as `python -m tests.claude.a_warm_program`.

The arguments are the state that its last spare is to have, and the folder to work in. It asks once,
prints `ready` when the spares have come that far, and waits for its end.
"""

import asyncio
import sys
from pathlib import Path

from jupyter_ccapi.claude import CLI, Capabilities, Limits, Options, Pool, query


async def everything(cli: CLI) -> Capabilities:
    """What the real CLI can do."""
    return Capabilities(**dict.fromkeys(Capabilities.__dataclass_fields__, True))


async def main(state: str, folder: Path) -> None:
    """Have two spares, the last of them in this state."""
    pool = Pool(Limits(spares=2), probe=everything)
    await query(pool, "hello", Options(cwd=folder)).finish()

    def come_that_far() -> bool:
        states = sorted(slot.state for slot in pool.slots)
        return states == sorted(["idle", "spare", state])

    while not come_that_far():  # noqa: ASYNC110 (nothing announces it)
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
