"""POST /v1/chat/completions."""

import asyncio
from collections.abc import AsyncIterator

from tornado import web

from jupyter_ccapi.claude import ClaudeError, Event, TextDelta, ThinkingDelta, Turn
from jupyter_ccapi.openai.chat_request import ChatRequest, parse_chat
from jupyter_ccapi.openai.chat_response import DONE, KEEP_ALIVE, ChatStream, completion
from jupyter_ccapi.openai.errors import APIError, from_core
from jupyter_ccapi.openai.validation import read_json

from ..stats import Record
from .base import BaseHandler, verb

# What the Messages API takes at the most (https://docs.anthropic.com/en/api/overview).
_MAX_BODY = 32 * 1024 * 1024
# So many bytes are read in a millisecond or two.
_QUICKLY_READ = 128 * 1024


class ChatCompletionsHandler(BaseHandler):
    """Chat completions, streamed and not. A client that goes away interrupts its turn."""

    _task: "asyncio.Task[None] | None" = None

    @verb("execute")
    async def post(self) -> None:
        """Answer a chat."""
        self._task = asyncio.current_task()
        record = self.gateway.stats.begin("chat")
        turn: Turn | None = None
        try:
            body = self.request.body
            # A large one away from the loop, since others are being served.
            in_thread = len(body) > _QUICKLY_READ
            request = await asyncio.to_thread(_read, body) if in_thread else _read(body)
            record.turn = turn = await self.gateway.chat(request, self.principal.id)
            async with turn:
                await (self._stream if request.stream else self._complete)(request, turn, record)
            record.finish("ok", turn.end)
        except asyncio.CancelledError:
            # Nobody is left to answer. The turn has been interrupted; what it cost until then
            # counts.
            record.finish("disconnected", turn.end if turn else None)
            raise web.Finish() from None
        except APIError as error:
            record.finish(error.code or str(error.status), turn.end if turn else None)
            raise
        except ClaudeError as core_error:
            api_error = from_core(core_error)
            record.finish(api_error.code or str(api_error.status), core_error.spent)
            raise api_error from core_error
        finally:
            record.finish("failed")

    def on_connection_close(self) -> None:
        """The client is gone: end its turn, whatever it waits for."""
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    async def _complete(self, request: ChatRequest, turn: Turn, record: Record) -> None:
        events = []
        async for event in turn:
            _note(event, record)
            events.append(event)
        answer = completion(events)
        self._say_about(request, turn)
        if turn.end is not None:
            self.set_header("x-ccapi-cost-usd", f"{turn.end.cost_usd:.8f}")
        self.finish(answer)

    async def _stream(self, request: ChatRequest, turn: Turn, record: Record) -> None:
        """Send each delta when it comes. Until the first, an error is still an HTTP status."""
        stream = ChatStream(include_usage=request.include_usage)
        async for events in self._with_silence(turn):
            chunks: list[bytes] = []
            try:
                for event in events or ():
                    _note(event, record)
                chunks.extend(stream.encoded(events or ()))
            finally:
                # Those that have come at once go out at once; each is an event of its own.
                await self._send(request, turn, chunks if events else [KEEP_ALIVE])
        self.write(DONE)
        self.finish(set_content_type="text/event-stream")

    async def _with_silence(self, turn: Turn) -> AsyncIterator[list[Event] | None]:
        """The turn's events as they come, and None whenever nothing has come for a while."""
        while True:
            try:
                async with asyncio.timeout(self.gateway.keep_alive):
                    events = await turn.read()
            except TimeoutError:
                self.update_api_activity()
                yield None
            else:
                if not events:
                    return
                yield events

    async def _send(self, request: ChatRequest, turn: Turn, chunks: list[bytes]) -> None:
        if chunks:
            self._begin(request, turn)
            self.write(b"".join(chunks))
            await self.flush()

    def _begin(self, request: ChatRequest, turn: Turn) -> None:
        if self._headers_written:
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        # nginx would else keep the deltas until its buffer is full.
        self.set_header("X-Accel-Buffering", "no")
        self._say_about(request, turn)

    def _say_about(self, request: ChatRequest, turn: Turn) -> None:
        if turn.warmth is not None:
            self.set_header("x-ccapi-process", turn.warmth)
        if request.ignored:
            self.set_header("x-ccapi-ignored", ", ".join(request.ignored))


def _read(body: bytes) -> ChatRequest:
    """Parse a body. Raises ``APIError``."""
    if len(body) > _MAX_BODY:
        raise APIError(413, f"The body is over {_MAX_BODY >> 20} MB.", code="request_too_large")
    return parse_chat(read_json(body))


def _note(event: Event, record: Record) -> None:
    if record.first is None and isinstance(event, TextDelta | ThinkingDelta):
        record.delta()


default_handlers = [(r"/v1/chat/completions", ChatCompletionsHandler)]
