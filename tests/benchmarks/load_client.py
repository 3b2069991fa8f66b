"""Many clients at once, in one process of their own: how many streams a second they get through.

Run as `python -m tests.benchmarks.load_client`: it reads a `Job` as JSON from its standard input
and prints the outcome as JSON.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.benchmarks.connection import LAST_CHUNK, process_in, request_for
from tests.benchmarks.measuring import NotMeasured
from tests.benchmarks.setting import MODEL

SYSTEM_PROMPT = "You are a helpful assistant with many clients."

_LARGEST = 1 << 22


@dataclass(frozen=True, slots=True)
class Job:
    """``clients`` ask the server at ``url``, each over a connection of its own: first ``warm_up``
    times, then, together, for ``seconds``.

    Each has conversations of ``turns`` turns, one after another, and resends their history: the
    ``prompt``, and the ``answer`` of the model. An answer must have ``chunks`` chunks with content.
    """

    url: str
    prompt: str
    answer: str
    turns: int
    chunks: int
    clients: int
    warm_up: int
    seconds: float


def requests(job: Job, client: int) -> list[bytes]:
    """The requests of one client's conversation, turn by turn."""
    messages = [{"role": "system", "content": SYSTEM_PROMPT}]
    made = []
    for _ in range(job.turns):
        messages.append({"role": "user", "content": f"{job.prompt} (client {client})"})
        made.append(request_for(job.url, {"model": MODEL, "stream": True, "messages": messages}))
        messages.append({"role": "assistant", "content": job.answer})
    return made


class Clients:
    """All clients of a job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ready = asyncio.Barrier(job.clients)
        self._processes: Counter[str] = Counter()

    async def run(self) -> dict[str, int]:
        """Do the job; return how many streams ended in its time, by how each came to its process,
        as the server says it.
        """
        await asyncio.gather(*[self._client(number) for number in range(self._job.clients)])
        return dict(self._processes)

    async def _client(self, number: int) -> None:
        conversation = itertools.cycle(requests(self._job, number))
        address = urlsplit(self._job.url)
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, limit=_LARGEST
        )
        for _ in range(self._job.warm_up):
            await self._stream(reader, writer, next(conversation))
        await self._ready.wait()
        end = time.perf_counter() + self._job.seconds
        while time.perf_counter() < end:
            process = await self._stream(reader, writer, next(conversation))
            if time.perf_counter() < end:
                self._processes[process] += 1
        writer.close()

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> str:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            said = head.splitlines()[0] + b" " + await reader.read(1000)
            raise NotMeasured(f"the server answered {said.decode()!r}")
        content = await reader.readuntil(LAST_CHUNK)
        # A chunk that only opens the answer has an empty content.
        chunks = content.count(b'"content":"') - content.count(b'"content":""')
        if chunks != self._job.chunks:
            raise NotMeasured(
                f"a stream had {chunks} chunks with content, not {self._job.chunks}; "
                f"it ended with {content[-300:].decode()!r}"
            )
        return process_in(head)


def main() -> int:
    """Do the job on the standard input; return the exit code."""
    job = Job(**json.load(sys.stdin))

    async def run() -> dict[str, int]:
        return await Clients(job).run()

    try:
        print(json.dumps(asyncio.run(run())))
    except (NotMeasured, asyncio.IncompleteReadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
