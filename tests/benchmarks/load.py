"""Sixteen clients at once: streams a second through the gateway (g), and one-shot requests to the
real CLI (h), each in turns with what it is compared with.
"""

import json
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from tests.benchmarks.connection import Connection
from tests.benchmarks.floor import cold_starts_per_second, cold_turn
from tests.benchmarks.load_client import Job
from tests.benchmarks.measuring import Figure, NotMeasured
from tests.benchmarks.setting import MODEL, Setting, end
from tests.benchmarks.stand_in_cli import DELTAS
from tests.servers import REPOSITORY, jupyter_server

CLIENTS = 16

# So long is a conversation before its client begins another one.
_TURNS = 25

_PATIENCE = 90.0


def streams(setting: Setting) -> list[Figure]:
    """(g) Streams of 100 deltas through the gateway, in conversations of 25 turns over a stand-in
    for the CLI, and from a bare Tornado handler that writes the very same events.
    """
    home = setting.home("streams")
    options = [
        f"--CCApiApp.cli_path={_stand_in(home)}",
        f"--CCApiApp.max_concurrent_sessions={CLIENTS}",
    ]
    through, bare = _Rates(), _Rates()
    with jupyter_server(setting.model, home, *options) as server:
        with closing(Connection(server.url)) as connection:
            body = {
                "model": MODEL,
                "stream": True,
                "messages": [{"role": "user", "content": "Go."}],
            }
            answer = connection.stream(body)
        job = Job(
            server.url,
            prompt="Say a hundred words.",
            answer=answer.text,
            turns=_TURNS,
            chunks=DELTAS,
            clients=CLIENTS,
            warm_up=3,
            seconds=setting.sizes.load_seconds,
        )
        with _bare_handler(answer.events) as url:
            for _ in range(setting.sizes.load_rounds):
                through.take(job)
                bare.take(replace(job, url=url))
    return [
        through.figure("g", "gateway, 16 clients, streams of 100 deltas"),
        bare.figure("g.bare", "… a bare Tornado handler, the same streams"),
    ]


def one_shots(setting: Setting) -> list[Figure]:
    """(h) One-shot requests with one system prompt to the real CLI, and cold starts of it."""
    home, cold_home = setting.home("one-shots"), setting.home("cold-starts")
    seconds = setting.sizes.load_seconds
    cold_turn(setting, cold_home)
    warm, cold = _Rates(), _Rates()
    with jupyter_server(setting.model, home) as server:
        job = Job(
            server.url,
            prompt="[[say hi]]",
            answer="hi",
            turns=1,
            chunks=1,
            clients=CLIENTS,
            warm_up=1,
            seconds=seconds * 1.25,
        )
        for _ in range(setting.sizes.load_rounds):
            warm.take(job)
            cold.rates.append(cold_starts_per_second(setting, cold_home, seconds))
    return [
        warm.figure("h", "gateway, 16 clients, one-shot requests"),
        cold.figure("h.cold", "… cold one-shot CLIs, two at a time"),
    ]


def _stand_in(folder: Path) -> Path:
    """An executable that is the stand-in for the CLI."""
    path = folder / "claude"
    script = Path(__file__).with_name("stand_in_cli.py")
    words = shlex.join([sys.executable, "-I", "-S", str(script)])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


class _Rates:
    """Streams a second, and how they came to their processes."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self._processes: Counter[str] = Counter()

    def take(self, job: Job) -> None:
        """Have the clients do a job."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.load_client"],
            cwd=REPOSITORY,
            input=json.dumps(asdict(job)),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise NotMeasured(done.stderr.strip().splitlines()[-1])
        streams: dict[str, int] = json.loads(done.stdout)
        self.rates.append(sum(streams.values()) / job.seconds)
        self._processes.update({how: count for how, count in streams.items() if how})

    def figure(self, key: str, label: str) -> Figure:
        """All of them as a figure."""
        return Figure(key, label, "/s", tuple(self.rates), self._processes)


@contextmanager
def _bare_handler(events: Sequence[str]) -> Iterator[str]:
    """The root URL of a bare handler that writes these events."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bare_handler"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(list(events)) + "\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
    finally:
        end(process)
