"""The core in this process: memory per conversation (i), and how soon an interrupt frees it (j)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from jupyter_ccapi.claude import Conversation, Limits, Options, Pool, TextDelta, Turn
from tests.benchmarks.measuring import Figure, NotMeasured, milliseconds_since
from tests.benchmarks.setting import MODEL, Setting

_LIVE = 4


def memory(setting: Setting) -> list[Figure]:
    """(i) The proportional set size of processes: a page that n of them share counts 1/n each."""
    return asyncio.run(_memory(setting))


async def _memory(setting: Setting) -> list[Figure]:
    turns = setting.sizes.long_life
    async with _pool(setting, "memory") as (pool, options):
        conversations = [Conversation(pool, options) for _ in range(_LIVE)]
        for conversation in conversations:
            await conversation.send("[[say hi]]").finish()
        live = _largest(pool)
        for number in range(turns - 1):
            await conversations[0].send(f"[[say hi {number}]]").finish()
        old = _largest(pool)[:1]
    return [
        Figure("i", f"memory (PSS) of a conversation, {_LIVE} live", "MB", live),
        Figure("i.old", f"… of one after {turns} turns", "MB", old),
    ]


def _largest(pool: Pool) -> tuple[float, ...]:
    """The megabytes of as many processes as there are conversations. Should the pool have spares,
    they are the smaller ones: nothing was asked of them yet.
    """
    sizes = [psutil.Process(pid).memory_full_info().pss / 1e6 for pid in pool.pids()]
    if len(sizes) < _LIVE:
        raise NotMeasured(f"{_LIVE} conversations had only {len(sizes)} processes")
    return tuple(sorted(sizes, reverse=True)[:_LIVE])


def interrupts(setting: Setting) -> list[Figure]:
    """(j) From the interrupt of an answer that is held until the turn is over, and until the first
    delta of the next one.
    """
    return asyncio.run(_interrupts(setting))


async def _interrupts(setting: Setting) -> list[Figure]:
    free: list[float] = []
    again: list[float] = []
    async with _pool(setting, "interrupts") as (pool, options):
        conversation = Conversation(pool, options)
        await conversation.send("[[say hi]]").finish()
        for _ in range(setting.sizes.interrupts):
            turn = conversation.send("[[words 5]] [[hold]]")
            await _first_delta(turn)
            began = time.perf_counter()
            await turn.interrupt()
            free.append(milliseconds_since(began))
            if turn.end is None or turn.end.reason != "interrupted":
                raise NotMeasured(f"an interrupted turn ended as {turn.end}")
            following = conversation.send("[[say hi]]")
            await _first_delta(following)
            again.append(milliseconds_since(began))
            await following.finish()
            setting.model.release()
    return [
        Figure("j", "interrupt until the conversation is free", "ms", tuple(free)),
        Figure("j.next", "… until the next turn's first delta", "ms", tuple(again)),
    ]


async def _first_delta(turn: Turn) -> None:
    async for event in turn:
        if isinstance(event, TextDelta):
            return
    raise NotMeasured("a turn ended without a text")


@asynccontextmanager
async def _pool(setting: Setting, name: str) -> AsyncIterator[tuple[Pool, Options]]:
    """A pool with room for all conversations, and spares beside them."""
    home = setting.home(name)
    limits = Limits(max_concurrent_sessions=2 * _LIVE)
    pool = Pool(limits, environment=setting.model.environment(home))
    try:
        yield pool, Options(model=MODEL, cwd=home / "project")
    finally:
        await pool.close()
