"""A program that rewinds and dies in the middle: `python -m tests.claude.a_rewinding_program`.

The arguments are a folder that holds `before`, as `rewinding_setup.build()` has made it, which is
`rewind` or `undo`, and numbers. For each of these a copy of it named `home` is made, in which one
process dies at that effect on the file system, and the next one goes on. A line of JSON says for
each what that one found, and what the opposite of what was done led to; the first that lives is the
last one.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude.rewinding import Rewinder, Wish
from tests.claude.effects import effects
from tests.claude.rewinding_setup import open_one, state

DIED = 9


async def act(home: Path, what: str) -> dict[str, object]:
    """Rewind the conversation of a folder, or take that back; return the state after it."""
    timeline, talk = await open_one(home)
    rewinder = Rewinder(timeline, talk)
    await (rewinder.undo(Wish()) if what == "undo" else rewinder.rewind(2, Wish()))
    after = state(home, timeline, talk)
    await timeline.close()
    return after


async def go_on(home: Path) -> dict[str, object]:
    """Open a conversation and see to what is left of the process that had it before."""
    timeline, talk = await open_one(home)
    await Rewinder(timeline, talk).recover()
    found = state(home, timeline, talk)
    await timeline.close()
    return found


def in_a_child(run: Callable[[], Coroutine[Any, Any, object]], *, dies_at: int = 0) -> str | None:
    """What it leads to, as JSON; None where the child died as it was to."""
    reading, writing = os.pipe()
    child = os.fork()  # it has imported all that it needs
    if child == 0:
        with effects(dies_at or sys.maxsize, "dies"):
            told = asyncio.run(run())
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        said = lines.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED), code
    return said if code == 0 else None


def main(folder: Path, what: str, numbers: list[int]) -> None:
    """See above."""
    opposite = "undo" if what == "rewind" else "rewind"
    home = folder / "home"
    for number in numbers:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(folder / "before", home, symlinks=True)
        lived = in_a_child(partial(act, home, what), dies_at=number)
        found = in_a_child(partial(go_on, home))
        assert found is not None
        done = json.loads(found)["rewinds"] == (what == "rewind")
        following = opposite if done else what
        back = in_a_child(partial(act, home, following))
        assert back is not None
        left = sorted(path.name for path in (home / "kept").iterdir())
        told = {"lived": lived is not None, "found": json.loads(found), "back": json.loads(back)}
        print(json.dumps({**told, "left": left, "done": done}), flush=True)
        if lived is not None:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [*map(int, sys.argv[3:])])
