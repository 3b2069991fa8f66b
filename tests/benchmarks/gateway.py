"""This gateway over HTTP, beside the CLI alone: next turns (a, c, f) and beginnings (b, d, e)."""

import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from uuid import uuid4

import psutil

from tests.benchmarks.connection import Connection
from tests.benchmarks.floor import WARM_UP_TURNS, BareCLI, WarmTurns, cold_query, cold_turn
from tests.benchmarks.measuring import Figure, Reading, Series, interleave
from tests.benchmarks.setting import MODEL, Setting
from tests.servers import Server, jupyter_server

# What was said in a conversation that is long already.
_SENTENCE = "this was said some time ago, and it went on like this for quite a while."
_LONG = tuple(f"In turn {number} {' And '.join([_SENTENCE] * 5)}" for number in range(20))

# Seconds that a server is waited for until it is at rest; how long it must have been; and how much
# a CLI works that only waits.
_REST_PATIENCE = 4.0
_MOMENT = 0.25
_NO_WORK = 0.03

# Seconds for each of the two: more only where the server is much slower than it should be.
_BUDGET = 70.0

_LABELS = {
    "a": "the CLI alone over stdio, warm: first delta",
    "a.result": "… its result",
    "a.long": "… first delta, in the long conversation of (f)",
    "b": "cold CLI: spawn, initialize, first delta",
    "b.query": "cold one-shot query() of the SDK: first delta",
    "b.query.end": "… its end",
    "c": "gateway, next turn of a live conversation",
    "d": "gateway, system prompt never seen, spare ready",
    "e": "gateway, new conversation, system prompt seen",
    "f": "gateway, a stateless client's long history",
}


class Returning:
    """(c, f) A stateless client that resends its whole history each turn."""

    def __init__(self, key: str, connection: Connection, before: Sequence[str] = ()) -> None:
        self._key = key
        self._connection = connection
        self._numbers = itertools.count()
        self._messages = [{"role": "system", "content": f"You are helpful, in case {key}."}]
        for answer in before:
            self._messages.append({"role": "user", "content": f"[[say {answer}]]"})
            self._messages.append({"role": "assistant", "content": answer})
        for _ in range(WARM_UP_TURNS):
            self()

    def __call__(self) -> dict[str, Reading]:
        """Have one turn."""
        self._messages.append({"role": "user", "content": f"[[say hi {next(self._numbers)}]]"})
        body = {"model": MODEL, "stream": True, "messages": self._messages}
        answer = self._connection.stream(body)
        self._messages.append({"role": "assistant", "content": answer.text})
        return {self._key: Reading(answer.first, answer.process)}


class Beginning:
    """(d, e) The first request of a conversation, with a system prompt of its own each time or with
    always the same.
    """

    def __init__(self, key: str, server: Server, connection: Connection, *, seen: bool) -> None:
        self._key = key
        self._server = server
        self._connection = connection
        self._prompt = f"You are a helpful assistant who was here before ({uuid4()})."
        self._seen = seen

    def __call__(self) -> dict[str, Reading]:
        """Wait until the server is at rest, then ask."""
        wait_for_rest(self._server, self._connection)
        prompt = self._prompt if self._seen else f"You are a helpful assistant, new: {uuid4()}."
        messages = [
            {"role": "system", "content": prompt},
            {"role": "user", "content": "[[say hi]]"},
        ]
        body = {"model": MODEL, "stream": True, "messages": messages}
        answer = self._connection.stream(body)
        return {self._key: Reading(answer.first, answer.process)}


def wait_for_rest(server: Server, connection: Connection) -> None:
    """Wait until the server has nothing to do: no turn runs, a spare is ready (where it has any)
    and no CLI of it has worked for a moment, as one does that is started ahead. Go on without when
    that takes long.
    """
    deadline = time.monotonic() + _REST_PATIENCE
    before: dict[int, float] = {}
    while time.monotonic() < deadline:
        processes = connection.get("stats")["processes"]
        work = _work(server)
        busy = processes["busy"] or processes["queue"] or not processes.get("spare", 1)
        worked = sum(work.values()) - sum(before.values())
        if not busy and work.keys() == before.keys() and worked < _NO_WORK:
            return
        before = work
        time.sleep(_MOMENT)


def _work(server: Server) -> dict[int, float]:
    """The seconds of processor time that each process below a server has taken, by its id."""
    found = {}
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def next_turns(setting: Setting, wanted: Collection[str]) -> list[Figure]:
    """(a, c, f) First deltas of next turns, in blocks that alternate."""
    sizes = setting.sizes
    with ExitStack() as stack:
        series = []
        if "a" in wanted:
            cli = stack.enter_context(BareCLI(setting, setting.home("floor")))
            series.append(Series(WarmTurns("a", cli), sizes.turns))
        if {"c", "f"} & set(wanted):
            server = stack.enter_context(jupyter_server(setting.model, setting.home("turns")))
            connection = stack.enter_context(closing(Connection(server.url)))
            if "c" in wanted:
                series.append(Series(Returning("c", connection), sizes.turns))
            if "f" in wanted:
                series.append(Series(Returning("f", connection, _LONG), sizes.turns))
                # To tell what the length of a history costs the CLI itself.
                cli = stack.enter_context(BareCLI(setting, setting.home("floor")))
                prompts = [f"[[say {answer}]]" for answer in _LONG]
                series.append(Series(WarmTurns("a.long", cli, prompts), sizes.turns))
        return _figures(interleave(series, rounds=sizes.turn_rounds, seconds=_BUDGET))


def beginnings(setting: Setting, wanted: Collection[str]) -> list[Figure]:
    """(b, d, e) First deltas of first turns, in blocks that alternate."""
    sizes = setting.sizes
    with ExitStack() as stack:
        series = []
        if "b" in wanted:
            home = setting.home("cold")
            # The first of a HOME writes its configuration, and the file comes from the disk.
            cold_turn(setting, home)
            series.append(Series(lambda: cold_turn(setting, home), sizes.cold))
            series.append(Series(lambda: cold_query(setting, home), sizes.cold))
        if {"d", "e"} & set(wanted):
            server = stack.enter_context(jupyter_server(setting.model, setting.home("beginnings")))
            connection = stack.enter_context(closing(Connection(server.url)))
            never_seen = Beginning("d", server, connection, seen=False)
            # The server's first request waits for what is imported with it.
            never_seen()
            if "d" in wanted:
                series.append(Series(never_seen, sizes.never_seen))
            if "e" in wanted:
                # Others came between: it is to be what was asked for last.
                seen = Beginning("e", server, connection, seen=True)
                series.append(Series(seen, sizes.seen, unmeasured=1))
        return _figures(interleave(series, rounds=sizes.beginning_rounds, seconds=_BUDGET))


def _figures(found: Mapping[str, Sequence[Reading]]) -> list[Figure]:
    return [Figure.of(key, _LABELS[key], "ms", found[key]) for key in _LABELS if key in found]
