"""What the routes that ask the model have in common: one request, one turn, streamed or whole."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar, Protocol

from tornado import iostream, web

from jupyter_ccapi.claude import ClaudeError, TurnEnd
from jupyter_ccapi.openai.answer import Ended, Piece, Said, Thought
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.request import Request
from jupyter_ccapi.openai.validation import read_json
from jupyter_ccapi.store import StoreError

from ..answering import Answering
from ..idempotency import Recording
from ..stats import Record
from .base import BaseHandler, as_api_error, verb

# What the Messages API takes at the most (https://docs.anthropic.com/en/api/overview).
_MAX_BODY = 32 * 1024 * 1024
# So many bytes are read in a millisecond or two.
_QUICKLY_READ = 128 * 1024

# A comment; clients skip it, and proxies see that the connection lives.
_KEEP_ALIVE = b": keep-alive\n\n"


class Wire(Protocol):
    """How one API writes an answer as a stream of server-sent events."""

    def opening(self) -> bytes:
        """What comes before the model's first word."""
        ...

    def encoded(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """The events of some pieces."""
        ...

    def closing(self) -> bytes:
        """What comes after the last piece."""
        ...

    def failure(self, error: APIError, request_id: str) -> bytes:
        """The last event of a stream that failed."""
        ...


class Asked(Protocol):
    """A body that was read: the request, and what the API needs for its answer."""

    @property
    def request(self) -> Request:
        """What is asked of the model."""
        ...


class TurnHandler(BaseHandler):
    """A route that answers with a turn. A client that goes away interrupts it.

    An API says how its body is read (``read``), how an answer is streamed (``wire``) and how it is
    written as a whole (``whole``); ``keep`` is called when an answer is complete.
    """

    route: ClassVar[str]
    keep_alive: ClassVar[bytes] = _KEEP_ALIVE
    _task: "asyncio.Task[None] | None" = None
    _wire: Wire | None = None
    _recording: Recording | None = None
    _gone = False
    _charged = False

    def read(self, body: Any, known: Any) -> Asked:
        """Read a body, with what was ``known`` of it. Raises ``APIError`` 400."""
        raise NotImplementedError

    async def known(self, body: Any) -> Any:
        """What reading a body needs to know of what is kept."""
        return None

    def wire(self, asked: Any) -> Wire:
        """How the answer is streamed."""
        raise NotImplementedError

    def whole(self, asked: Any, answering: Answering) -> dict[str, Any]:
        """The whole answer."""
        raise NotImplementedError

    async def keep(self, asked: Any, answering: Answering) -> None:
        """Keep what is to be kept of a complete answer, before its client knows that it is."""
        await answering.keep()

    @verb("execute")
    async def post(self) -> None:
        """Answer."""
        self._task = asyncio.current_task()
        if self._gone:
            raise web.Finish()
        record = self.gateway.stats.begin(self.route)
        answering: Answering | None = None
        spent: TurnEnd | None = None
        try:
            asked = await self._read()
            if await self._is_replayed():
                record.finish("replayed")
                return
            answering = await self._begin(asked)
            record.turn = answering.turn
            async with answering:
                send = self._stream if asked.request.stream else self._complete
                await send(asked, answering, record)
                # Before the conversation is let go, which takes a moment in which a client leaves.
                self._end_recording(whole=True)
            record.finish("ok", answering.turn.end)
        except asyncio.CancelledError:
            # Nobody is left to answer. The turn has been interrupted; what it cost until then
            # counts.
            record.finish("disconnected", answering.turn.end if answering is not None else None)
            raise web.Finish() from None
        except (APIError, ClaudeError, StoreError) as error:
            api_error = as_api_error(error)
            if isinstance(error, ClaudeError):
                spent = error.spent
            elif answering is not None:
                spent = answering.turn.end
            record.finish(api_error.code or str(api_error.status), spent)
            if answering is not None:
                answering.mark(api_error)
                if isinstance(error, StoreError):
                    # The answer is there, and paid for; it could not be kept.
                    api_error.should_retry = False
            raise api_error from error
        finally:
            self._end_recording(whole=False)
            record.finish("failed")
            await self._charge(spent or (answering.turn.end if answering is not None else None))

    def on_connection_close(self) -> None:
        """The client is gone: end its turn, whatever it waits for. Where it has sent an
        ``Idempotency-Key`` it may come back, or another one waits for the same: then the turn goes
        on.
        """
        super().on_connection_close()
        self._gone = True
        if self._task is not None and self._recording is None:
            self._task.cancel()

    def stream_failure(self, error: APIError) -> bytes:
        """The last event of a stream that failed, in the API's own words."""
        if self._wire is None:
            return super().stream_failure(error)
        return self._wire.failure(error, self.request_id)

    async def _read(self) -> Asked:
        body = self.request.body
        if len(body) > _MAX_BODY:
            raise APIError(413, f"The body is over {_MAX_BODY >> 20} MB.", code="request_too_large")
        if len(body) <= _QUICKLY_READ:
            given = read_json(body)
            return self.read(given, await self.known(given))
        # Away from the loop, since others are being served.
        given = await asyncio.to_thread(read_json, body)
        return await asyncio.to_thread(self.read, given, await self.known(given))

    async def _begin(self, asked: Asked) -> Answering:
        """Begin to answer; a stream is kept alive meanwhile, since others may have the
        conversation, or images be slow.
        """
        beginning = asyncio.ensure_future(self.gateway.answer(asked.request, self.principal))
        try:
            while asked.request.stream:
                done, _ = await asyncio.wait([beginning], timeout=self.gateway.keep_alive)
                if done:
                    break
                self._wire = self._wire or self.wire(asked)
                await self._send(None, self._wire, self.keep_alive)
            return await beginning
        except asyncio.CancelledError:
            beginning.cancel()
            await asyncio.wait([beginning])
            if not beginning.cancelled() and beginning.exception() is None:
                async with beginning.result():
                    pass  # it came in the same moment: nobody wants it
            raise

    async def _complete(self, asked: Asked, answering: Answering, record: Record) -> None:
        while not answering.over:
            for piece in await answering.read():
                _note(piece, record)
        answer = self.whole(asked, answering)
        await self._charge(answering.turn.end)
        await self.keep(asked, answering)
        self._say_about(answering)
        ended = answering.answer.ended
        if ended is not None and ended.cost_usd is not None:
            self.set_header("x-ccapi-cost-usd", f"{ended.cost_usd:.8f}")
        self.set_header("Content-Type", "application/json")
        self._send_piece(json.dumps(answer).encode())
        self._finish("application/json")

    async def _stream(self, asked: Asked, answering: Answering, record: Record) -> None:
        """Send each delta when it comes. Until the first, an error is still an HTTP status."""
        self._wire = wire = self._wire or self.wire(asked)
        async for pieces in self._with_silence(answering):
            chunks: list[bytes] = []
            try:
                if pieces is None:
                    chunks.append(self.keep_alive)
                for piece in pieces or ():
                    _note(piece, record)
                    end = list(wire.encoded([piece]))
                    if isinstance(piece, Ended):
                        await self._charge(answering.turn.end)
                        await self.keep(asked, answering)
                        end.append(wire.closing())
                    chunks += end
            finally:
                # Those that have come at once go out at once; each is an event of its own.
                await self._send(answering, wire, b"".join(chunks))
        self._finish("text/event-stream")

    async def _with_silence(self, answering: Answering) -> AsyncIterator[Iterator[Piece] | None]:
        """The answer's pieces as they come, and None whenever nothing has come for a while."""
        while not answering.over:
            try:
                async with asyncio.timeout(self.gateway.keep_alive):
                    pieces = await answering.read()
            except TimeoutError:
                self.update_api_activity()
                yield None
            else:
                yield pieces

    async def _send(self, answering: Answering | None, wire: Wire, data: bytes) -> None:
        if not data:
            return
        if not self._headers_written:
            self.set_header("Content-Type", "text/event-stream")
            self.set_header("Cache-Control", "no-cache")
            # nginx would else keep the deltas until its buffer is full.
            self.set_header("X-Accel-Buffering", "no")
            if answering is not None:
                self._say_about(answering)
            data = wire.opening() + data
        self._send_piece(data)
        if not self._gone:
            with suppress(iostream.StreamClosedError):
                await self.flush()

    def _finish(self, content_type: str) -> None:
        """End the answer, if there is still somebody to have it."""
        if not self._gone:
            self.finish(set_content_type=content_type)

    def _say_about(self, answering: Answering) -> None:
        if answering.turn.warmth is not None:
            self.set_header("x-ccapi-process", answering.turn.warmth)
        if answering.thread.id is not None:
            self.set_header("x-ccapi-conversation-id", answering.thread.id)
        if answering.thread.mark is not None and answering.thread.mark.number is not None:
            self.set_header("x-ccapi-checkpoint", str(answering.thread.mark.number))
        if answering.request.ignored:
            self.set_header("x-ccapi-ignored", ", ".join(answering.request.ignored))

    def _send_piece(self, data: bytes) -> None:
        if not self._gone:
            self.write(data)
        if self._recording is not None:
            self._recording.begin(self.get_status(), list(self._headers.get_all()))
            self._recording.add(data)

    async def _is_replayed(self) -> bool:
        """Whether this request was there before, by its ``Idempotency-Key``; then it is given the
        same answer, also one that is still being made.
        """
        key = self.request.headers.get("Idempotency-Key")
        if not key:
            return False
        while True:
            recording, joined = self.gateway.recordings.find_or_begin(
                self.principal.id, self.route, key, self.request.body
            )
            if not joined:
                self._recording = recording
                return False
            if await self._replay(recording):
                return True

    async def _replay(self, recording: Recording) -> bool:
        """Send what was recorded, and what is still to come; False where there is nothing."""
        read = 0
        while chunks := await recording.more(read):
            if not read:
                self.set_status(recording.status)
                for name, value in recording.headers:
                    if name.lower() not in ("x-request-id", "date", "content-length"):
                        self.set_header(name, value)
                self.set_header("x-ccapi-replayed", "true")
            read += len(chunks)
            self.write(b"".join(chunks))
            await self.flush()
        if recording.lost:
            if read:
                raise APIError(
                    502, "The request with this Idempotency-Key broke off.", code="turn_failed"
                )
            return False
        self.finish(set_content_type=self._headers["Content-Type"])
        return True

    def _end_recording(self, *, whole: bool) -> None:
        if self._recording is not None and not self._recording.over:
            self._recording.end(whole=whole)

    async def _charge(self, end: TurnEnd | None) -> None:
        """Count, once, what the turn has cost towards the budget of the key that it was asked with;
        before its client knows the answer, so that it cannot ask again meanwhile.
        """
        key = self.principal.key
        if key is not None and end is not None and not self._charged:
            self._charged = True
            try:
                await self.gateway.store.keys.spend(key.id, end.cost_usd)
            except StoreError as error:
                self.log.warning("What the key %s has spent was not counted: %s", key.name, error)


def _note(piece: Piece, record: Record) -> None:
    if record.first is None and isinstance(piece, Said | Thought):
        record.delta()
