"""Sessions with many clients, over a stand-in for the CLI: how much later they are told than the
session's log (l, m), and how soon who joins is told all (n).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from urllib.request import Request, urlopen

from tests.benchmarks.audience_client import Job, Outcome
from tests.benchmarks.measuring import Figure, NotMeasured
from tests.benchmarks.setting import Setting
from tests.bridge.stand_in import install
from tests.servers import REPOSITORY, TOKEN, make_environment, serving

# Words a second, as a model streams them.
_PACE = 20

_CLIENTS = 200
_SESSIONS = 50
_CLIENTS_EACH = 4

_EVENTS = 10_000
_REPLAYS = 5

_PATIENCE = 150.0
_ENDED = '"type": "result"'


def one_session(setting: Setting) -> list[Figure]:
    """(l) Words of one session on their way to 200 clients."""
    about = f"one session, {_CLIENTS} clients"
    return _live(setting, "l", about, sessions=1, clients=_CLIENTS)


def many_sessions(setting: Setting) -> list[Figure]:
    """(m) Words of 50 sessions at once on their way to the four clients of each."""
    about = f"{_SESSIONS} sessions with {_CLIENTS_EACH} clients each"
    return _live(setting, "m", about, sessions=_SESSIONS, clients=_CLIENTS_EACH)


def replays(setting: Setting) -> list[Figure]:
    """(n) All that has happened in a session, to a client that joins: 10,000 whole messages, the
    newest of which are in memory and all others in the store; and as many pieces of a message that
    is not at its end.
    """
    kept = [(f"[[messages {_EVENTS}]]", _ENDED)]
    pieces = [(f"[[flood {_EVENTS} and hang]]", f'"{_EVENTS - 1}@')]
    figures = []
    with _server(setting, "replays", sessions=2) as (url, sessions):
        for key, id, prompts, label in (
            ("n", sessions[0], kept, "replay of 10,000 events, from store and memory"),
            ("n.pieces", sessions[1], pieces, "… of 10,000 pieces of a message, from memory"),
        ):
            found = _outcome(Job(url, [id], prompts, _REPLAYS, "replay"))
            if found.events < _EVENTS:
                raise NotMeasured(f"a client was told {found.events} events, not {_EVENTS}")
            figures.append(Figure(key, label, "ms", tuple(found.replays)))
    return figures


def _live(setting: Setting, key: str, about: str, *, sessions: int, clients: int) -> list[Figure]:
    words = int(_PACE * setting.sizes.audience_seconds)
    # The first turn waits for all that is started with it.
    prompts = [("Hello.", _ENDED), (f"[[words {words} every {1 / _PACE}]]", _ENDED)]
    with _server(setting, f"audience-{key}", sessions=sessions) as (url, ids):
        found = _outcome(Job(url, ids, prompts, clients, "live"))
    if len(found.added) < 0.9 * words * clients * sessions:
        raise NotMeasured(f"only {len(found.added)} words came")
    return [
        Figure(key, f"{about}: log to client", "ms", tuple(found.added)),
        Figure(f"{key}.whole", "… CLI to client", "ms", tuple(found.whole)),
    ]


def _outcome(job: Job) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.audience_client"],
        cwd=REPOSITORY,
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        raise NotMeasured(done.stderr.strip().splitlines()[-1])
    return Outcome(**json.loads(done.stdout))


@contextmanager
def _server(setting: Setting, name: str, *, sessions: int) -> Iterator[tuple[str, list[str]]]:
    """A server over the stand-in: its root URL, and the ids of so many sessions."""
    home = setting.home(name)
    extensions = {"jupyter_ccapi": True, "tests.benchmarks.noting": True}
    with serving(
        "jupyter_server",
        f"--ServerApp.jpserver_extensions={extensions}",
        "--ServerApp.port=0",
        f"--CCApiApp.cli_path={install(home)}",
        f"--CCApiApp.max_concurrent_sessions={sessions}",
        "--CCApiApp.spares=0",
        environment=make_environment(setting.model, home),
        home=home,
    ) as server:
        yield server.url, [_begin(server.url) for _ in range(sessions)]


def _begin(url: str) -> str:
    """Make a session; its id."""
    request = Request(f"{url}v1/sessions", b"{}", {"Authorization": f"Bearer {TOKEN}"})
    with urlopen(request, timeout=_PATIENCE) as answer:
        return str(json.load(answer)["session_id"])
