"""A program that uses the core and comes to a bad end: run as `python -m tests.claude.a_program`.

The arguments are its ending, the mode, and the folder to work in. It sends one prompt and prints
`ready` when the answer, or a tool call, begins.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude import Conversation, Limits, Options, Pool, TextDelta, ToolCall, TurnEnd


async def main(ending: str, mode: Any, folder: Path) -> None:
    """Run a turn; do with it what the ending says."""
    if ending == "hears SIGINT":
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: print("SIGINT", flush=True))
    pool = Pool(Limits(spares=0))
    tools = {"allowed_tools": ["Bash"]} if mode == "agent" else {}
    turn = Conversation(pool, Options(mode=mode, cwd=folder, sdk=tools)).send("begin")
    async for event in turn:
        if isinstance(event, TextDelta | ToolCall):
            break
    if ending == "forks" and os.fork() == 0:
        # As multiprocessing does it: with everything open that its parent has open.
        signal.pause()
    print("ready", flush=True)
    if ending == "raises":
        raise ZeroDivisionError("on purpose")
    if ending == "returns":
        return
    if ending == "exits":
        os._exit(0)
    async for event in turn:
        if isinstance(event, TurnEnd):
            print(event.text, flush=True)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
