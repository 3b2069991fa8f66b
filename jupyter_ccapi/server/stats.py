"""What was served: counted for GET /stats, and for Prometheus on the server's own /metrics."""

import math
import time
from collections import Counter, deque
from dataclasses import asdict
from functools import partial
from typing import Any

from prometheus_client import Counter as Metric
from prometheus_client import Gauge, Histogram

from jupyter_ccapi.claude import (
    ENDINGS,
    WARMTHS,
    ClaudeError,
    Pool,
    Turn,
    TurnEnd,
    Usage,
    Watcher,
)

# Prometheus allows a name once a process: these belong to the module.
_REQUESTS = Metric(
    "ccapi_requests",
    "Requests that reached a model route, by how they ended.",
    ["route", "outcome"],
)
_TOKENS = Metric("ccapi_tokens", "Tokens as the model reported them.", ["kind"])
_COST = Metric("ccapi_cost_usd", "Cost in USD as Claude Code reckons it.")
_WARMTH = Metric(
    "ccapi_turns",
    "Turns by how they came to their process: live, recycled, bound, spare or cold.",
    ["warmth"],
)
_FIRST = Histogram("ccapi_first_token_seconds", "From the request to the first delta.")
_TOTAL = Histogram("ccapi_request_seconds", "From the request to its end.")
_PROCESSES = Gauge(
    "ccapi_processes",
    "Claude Code processes, by state; queue counts requests that wait for one.",
    ["state"],
)

_WINDOW = 1000


class Stats(Watcher):
    """The figures of one server since its start; latencies over its last 1000 requests, in
    milliseconds. ``running`` are the requests that have no answer yet. The turns of sessions are no
    requests: it watches their conversations.
    """

    def __init__(self, pool: Pool, version: str) -> None:
        self._pool = pool
        self._version = version
        self._began = time.monotonic()
        self.running = 0
        self._outcomes: Counter[str] = Counter()
        self._session_turns = 0
        self._usage = Usage()
        self._cost = 0.0
        self._first: deque[float] = deque(maxlen=_WINDOW)
        self._total: deque[float] = deque(maxlen=_WINDOW)
        for state in ("busy", "idle", "spare"):
            _PROCESSES.labels(state).set_function(partial(pool.count, state))
        _PROCESSES.labels("queue").set_function(lambda: pool.waiting)

    def begin(self, route: str) -> "Record":
        """Count a request from now on."""
        self.running += 1
        return Record(self, route)

    def ends(self, outcome: TurnEnd | ClaudeError) -> None:
        """A turn of a session is over."""
        self._session_turns += 1
        self._spent(outcome if isinstance(outcome, TurnEnd) else outcome.spent)

    def report(self) -> dict[str, Any]:
        """All of it, as GET /stats shows it."""
        usage = self._usage
        return {
            "version": self._version,
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "requests": {"total": self._outcomes.total(), **dict(self._outcomes)},
            "sessions": {"turns": self._session_turns},
            "tokens": {
                "prompt": usage.prompt_tokens,
                "cached": usage.cache_read_tokens,
                "completion": usage.output_tokens,
                "reasoning": usage.thinking_tokens,
            },
            "cost_usd": round(self._cost, 6),
            "latency_ms": {
                "first_token": _percentiles(self._first),
                "total": _percentiles(self._total),
            },
            "processes": {
                "starting": self._pool.count("starting"),
                "spare": self._pool.count("spare"),
                "idle": self._pool.count("idle"),
                "busy": self._pool.count("busy"),
                "queue": self._pool.waiting,
                "max": self._pool.limits.max_concurrent_sessions,
                "ended": {why: self._pool.ended[why] for why in ENDINGS},
            },
            "warm": self._warm(),
            "memory_bytes": asdict(self._pool.memory),
        }

    def _warm(self) -> dict[str, Any]:
        """How turns came to their processes."""
        return {
            "on": self._pool.limits.warm,
            **{warmth: self._pool.served[warmth] for warmth in WARMTHS},
            "failed": self._pool.warm_failures,
            "capabilities": asdict(self._pool.capabilities),
        }

    def _finish(self, record: "Record", outcome: str, end: TurnEnd | None) -> None:
        now = time.monotonic()
        self.running -= 1
        self._outcomes[outcome] += 1
        if record.turn is not None and record.turn.warmth is not None:
            _WARMTH.labels(record.turn.warmth).inc()
        _REQUESTS.labels(record.route, outcome).inc()
        self._total.append(now - record.began)
        _TOTAL.observe(now - record.began)
        if record.first is not None:
            self._first.append(record.first - record.began)
            _FIRST.observe(record.first - record.began)
        self._spent(end)

    def _spent(self, end: TurnEnd | None) -> None:
        if end is None:
            return
        self._usage += end.usage
        self._cost += end.cost_usd
        _COST.inc(end.cost_usd)
        for kind, tokens in (
            ("input", end.usage.input_tokens),
            ("output", end.usage.output_tokens),
            ("cache_read", end.usage.cache_read_tokens),
            ("cache_creation", end.usage.cache_creation_tokens),
        ):
            _TOKENS.labels(kind).inc(tokens)


class Record:
    """One request under way, and its ``turn`` once it has one."""

    def __init__(self, stats: Stats, route: str) -> None:
        self.route = route
        self.began = time.monotonic()
        self.first: float | None = None
        self.turn: Turn | None = None
        self._stats = stats
        self._over = False

    def delta(self) -> None:
        """The model said something; only the first time counts."""
        if self.first is None:
            self.first = time.monotonic()

    def finish(self, outcome: str, end: TurnEnd | None = None) -> None:
        """Count the request as ``ok``, ``disconnected`` or by its error's code; the first call
        counts.
        """
        if not self._over:
            self._over = True
            self._stats._finish(self, outcome, end)


def _percentiles(seconds: deque[float]) -> dict[str, float | None]:
    """The nearest ranks, in milliseconds; None before the first request."""
    ranked = sorted(seconds)
    return {
        name: round(ranked[math.ceil(share * len(ranked)) - 1] * 1000, 1) if ranked else None
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }
