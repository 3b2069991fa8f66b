"""Requests that were sent twice: an ``Idempotency-Key`` joins them to one answer."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from jupyter_ccapi.openai.errors import APIError

# An answer is kept for so many seconds, and so many of them, of so many bytes, at the most.
_KEPT = 600.0
_MOST = 256
_MOST_BYTES_IN_ALL = 64 * 1024 * 1024
# A longer answer is not kept: a second request is then answered anew.
_MOST_BYTES = 4 * 1024 * 1024


@dataclass
class Recording:
    """One answer as it was sent, for those who ask for the same again."""

    body: bytes
    since: float = field(default_factory=time.monotonic)
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    over: bool = False
    #: It broke off, or grew too long: what it has is of no use to others.
    lost: bool = False
    size: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Note what the answer begins with; the first call counts."""
        if not self.status:
            self.status, self.headers = status, headers
            self._tell()

    def add(self, chunk: bytes) -> None:
        """Note a piece of the answer."""
        self.size += len(chunk)
        if self.size > _MOST_BYTES:
            self.lost = True
            self.chunks.clear()
        else:
            self.chunks.append(chunk)
        self._tell()

    def end(self, *, whole: bool) -> None:
        """Note that nothing more comes."""
        self.over = True
        self.lost = self.lost or not whole
        self._tell()

    async def more(self, read: int) -> list[bytes]:
        """Wait for the pieces after the first ``read``; none once the answer is over or lost."""
        while not self.lost and not self.over and len(self.chunks) <= read:
            changed = self._changed
            await changed.wait()
        return [] if self.lost else self.chunks[read:]

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Recordings:
    """The latest answers to requests with an ``Idempotency-Key``, by owner, route and key."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], Recording] = OrderedDict()

    def find_or_begin(
        self, owner: str, route: str, key: str, body: bytes
    ) -> tuple[Recording, bool]:
        """The answer to this request, and whether it is one that somebody else is to be given.

        Raises ``APIError`` 400 where the key came with another body before.
        """
        self._forget()
        name, digest = (owner, route, key), hashlib.blake2b(body).digest()
        known = self._kept.get(name)
        if known is not None and not known.lost:
            if known.body != digest:
                raise APIError(
                    400,
                    "This Idempotency-Key came with another body before: send each request with "
                    "a key of its own.",
                    code="idempotency_key_reused",
                )
            return known, True
        recording = self._kept[name] = Recording(digest)
        return recording, False

    def _forget(self) -> None:
        oldest = time.monotonic() - _KEPT
        size = sum(recording.size for recording in self._kept.values())
        for name, recording in list(self._kept.items()):
            much = len(self._kept) > _MOST or size > _MOST_BYTES_IN_ALL
            # One that is still being made is waited for.
            if recording.lost or (recording.over and (much or recording.since < oldest)):
                size -= recording.size
                del self._kept[name]
