"""The HTTP face of the offline model: Anthropic's Messages API, and the log."""

import asyncio
import json
import uuid
from contextlib import suppress
from typing import Any

from tornado import web
from tornado.iostream import StreamClosedError

from jupyter_ccapi.demo import answers, sse
from jupyter_ccapi.demo.log import LoggedRequest
from jupyter_ccapi.demo.replies import ApiError, Reply
from jupyter_ccapi.demo.stage import Stage

HOLD_POLL = 0.005
"""Seconds between two looks at a held answer's event, which belongs to another thread."""

MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")


class Handler(web.RequestHandler):
    """Answers in JSON, errors in Anthropic's shape."""

    stage: Stage

    def initialize(self, stage: Stage) -> None:
        """Take what the handlers share."""
        self.stage = stage

    def set_default_headers(self) -> None:
        """Name the answer, as Anthropic does."""
        self.set_header("request-id", f"req_{uuid.uuid4().hex[:24]}")

    def fail(self, error: ApiError) -> None:
        """Answer with an error."""
        self.set_status(error.status)
        if error.retry_after is not None:
            self.set_header("Retry-After", f"{error.retry_after:g}")
        self.finish(error.body())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Put what Tornado itself refuses into Anthropic's shape."""
        if status_code == 404:
            message = f"The offline demo model has no {self.request.method} {self.request.path}."
        else:
            message = f"{status_code} {self._reason}"
        self.finish(ApiError(status_code, "", message).body())


class MessagesHandler(Handler):
    """`POST /v1/messages`: one message of the model, streamed or whole."""

    entry: LoggedRequest
    gone: asyncio.Event

    async def post(self) -> None:
        """Log the request, then answer it."""
        self.gone = asyncio.Event()
        body = parsed(self.request.body)
        side = answers.is_side(body)
        self.entry = LoggedRequest(
            self.request.path, dict(self.request.headers.get_all()), body, side=side
        )
        self.stage.log.add(self.entry)
        error = answers.complaint(body)
        reply = Reply(error=error) if error else self.stage.reply(body, side=side)
        try:
            await self.answer(reply, body)
        except StreamClosedError:
            self.left()

    def on_connection_close(self) -> None:
        """Note that the client left before the answer was finished."""
        self.left()

    def left(self) -> None:
        """Mark the request as closed early, once, unless it was finished before."""
        self.gone.set()
        if not self.entry.finished:
            self.stage.log.update(self.entry, closed_early=True)

    async def answer(self, reply: Reply, body: Any) -> None:
        """Answer with a reply in the way that the body asks for."""
        for name, value in reply.headers.items():
            self.set_header(name, value)
        if reply.error and not (reply.text and self.entry.stream):
            await self.pause(reply, 0)
            self.stage.log.update(self.entry, status=reply.error.status, finished=True)
            self.fail(reply.error)
            return
        self.stage.log.update(self.entry, status=200)
        whole = sse.message(reply, body)
        if self.entry.stream:
            await self.stream(reply, whole)
        else:
            await self.whole(reply, whole)

    async def stream(self, reply: Reply, whole: dict[str, Any]) -> None:
        """Answer with the events of a stream, word by word."""
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        events = list(sse.stream(whole))
        if reply.error:
            events[-2:] = [sse.Event(reply.error.body())]
        if reply.drop:
            events = events[: len(events) // 2]
        paced = 0
        for number, event in enumerate(events, 1):
            # The log is always ahead of what the client sees, so that a test may look at once.
            self.stage.log.update(self.entry, chunks_sent=number)
            self.write(event.encode())
            await self.flush()
            if event.paced:
                await self.pause(reply, paced)
                paced += 1
            if self.gone.is_set():
                return
        await self.end(reply)

    async def whole(self, reply: Reply, whole: dict[str, Any]) -> None:
        """Answer with one JSON message, after all the delays that a stream would have."""
        for number in range(sum(event.paced for event in sse.stream(whole))):
            await self.pause(reply, number)
            if self.gone.is_set():
                return
        if not reply.drop:
            self.write(whole)
        await self.end(reply)

    async def end(self, reply: Reply) -> None:
        """Finish the answer, or cut the connection."""
        if reply.drop:
            self.left()
            self.detach().close()
            return
        self.stage.log.update(self.entry, finished=True)
        await self.finish()

    async def pause(self, reply: Reply, number: int) -> None:
        """Wait after a word: for the hold after the first, for the delay after each.

        Returns at once when the client leaves. Without a delay the loop still gets a turn, or
        a long answer would keep it from seeing that the client left.
        """
        if number == 0 and reply.hold:
            self.stage.log.update(self.entry, held=True)
            while not reply.hold.is_set() and not self.gone.is_set():
                await self.left_within(HOLD_POLL)
            self.stage.log.update(self.entry, held=False)
        delay = self.stage.word_delay if reply.word_delay is None else reply.word_delay
        if delay > 0:
            await self.left_within(delay)
        else:
            await asyncio.sleep(0)

    async def left_within(self, seconds: float) -> None:
        """Wait until the client leaves, and no longer than that."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)


class CountTokensHandler(Handler):
    """`POST /v1/messages/count_tokens`: how long a request is."""

    def post(self) -> None:
        """Count, about four characters a token."""
        body = parsed(self.request.body)
        error = answers.complaint(body)
        self.stage.log.add(
            LoggedRequest(
                self.request.path,
                dict(self.request.headers.get_all()),
                body,
                side=True,
                status=error.status if error else 200,
                finished=True,
            )
        )
        if error:
            self.fail(error)
        else:
            self.finish({"input_tokens": sse.count_tokens(body)})


class ModelsHandler(Handler):
    """`GET /v1/models`: a small list, in Anthropic's shape."""

    def get(self) -> None:
        """List the models that this server pretends to have."""
        models = [
            {
                "type": "model",
                "id": name,
                "display_name": f"{name} (offline demo)",
                "created_at": "2025-01-01T00:00:00Z",
            }
            for name in MODELS
        ]
        page = {"has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
        self.finish({"data": models, **page})


class RootHandler(Handler):
    """`/`: says what this is; the CLI looks here whether the server is up."""

    def get(self) -> None:
        """Say what this is."""
        self.finish({"name": "offline demo model", "log": "/log", "release": "/release"})

    def head(self) -> None:
        """Be there."""
        self.finish()


class LogHandler(Handler):
    """`/log`: what the model was sent, for tests in other processes."""

    def get(self) -> None:
        """Return the requests so far, oldest first."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps([request.as_json() for request in self.stage.log.snapshot()]))

    def delete(self) -> None:
        """Forget the requests so far."""
        self.stage.clear()
        self.set_status(204)
        self.finish()


class ReleaseHandler(Handler):
    """`POST /release`: let held answers go on."""

    def post(self) -> None:
        """Release and say how many there were."""
        self.finish({"released": self.stage.release()})


class UnknownHandler(Handler):
    """Every other path: 404 in Anthropic's shape."""

    def prepare(self) -> None:
        """Refuse, whatever the verb."""
        raise web.HTTPError(404)


def parsed(body: bytes) -> Any:
    """Return the JSON of a request body, `None` where it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def application(stage: Stage) -> web.Application:
    """Return the Tornado application of the offline model."""
    shared = {"stage": stage}
    return web.Application(
        [
            (r"/v1/messages", MessagesHandler, shared),
            (r"/v1/messages/count_tokens", CountTokensHandler, shared),
            (r"/v1/models", ModelsHandler, shared),
            (r"/log", LogHandler, shared),
            (r"/release", ReleaseHandler, shared),
            (r"/", RootHandler, shared),
        ],
        default_handler_class=UnknownHandler,
        default_handler_args=shared,
        log_function=lambda handler: None,
    )
