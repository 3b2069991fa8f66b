"""The bounds of a pool."""

from dataclasses import dataclass

#: What a process may come to use, in bytes: 110 MB each when several run, up to 240 MB after long
#: use.
PROCESS_MEMORY = 250 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a pool; times are in seconds.

    ``max_concurrent_sessions`` counts every process, also the idle ones and the spares, of which
    there are at most ``spares``. Without ``warm`` each turn gets a new process and
    nothing is kept ready. A process whose model waits for the results of a client's tools waits
    ``tool_timeout`` with it; after that the turn goes on in another one.
    """

    max_concurrent_sessions: int = 4
    max_queue: int = 64
    queue_deadline: float = 30.0
    idle_timeout: float = 600.0
    start_timeout: float = 30.0
    turn_timeout: float = 600.0
    tool_timeout: float = 300.0
    warm: bool = True
    spares: int = 2
