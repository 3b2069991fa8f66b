"""What all routes share: who is asking, the request's id, and errors in OpenAI's shape."""

import json
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from jupyter_ccapi.claude import ClaudeError
from jupyter_ccapi.openai.chat_response import encode
from jupyter_ccapi.openai.errors import APIError, from_core
from jupyter_ccapi.store import LeaseTimeout, StoreError

from ..access import KeyHandler, check_budget
from ..cors import CrossOriginHandler
from ..gateway import Gateway
from ..principal import Principal

_REQUEST_ID = re.compile(r"[\w.:-]{1,128}")
_BAD_KEY = (
    "Incorrect API key provided: send this server's token, or a key of `jupyter ccapi key create`, "
    "as `Authorization: Bearer KEY` or `x-api-key: KEY`."
)


class BaseHandler(ExtensionHandlerMixin, CrossOriginHandler, KeyHandler):
    """A route. Every answer bears ``x-request-id``, the client's own where it sent one."""

    auth_resource = "jupyter_ccapi:openai"

    @property
    def gateway(self) -> Gateway:
        """The core of this server."""
        gateway: Gateway = self.settings["ccapi_gateway"]
        return gateway

    @property
    def principal(self) -> Principal:
        """Who is asking; a key asks for its owner."""
        if self.key is not None:
            return Principal(self.key.owner, self.key.name, self.key)
        identified: Principal = self.settings["ccapi_identify"](self)
        return identified

    @property
    def request_id(self) -> str:
        """The client's ``x-request-id``, or one that is made here."""
        if not hasattr(self, "_request_id"):
            sent = self.request.headers.get("x-request-id", "")
            self._request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req_{uuid4().hex}"
        return self._request_id

    def set_default_headers(self) -> None:
        """Jupyter's headers and the request's id; errors keep them too."""
        super().set_default_headers()
        self.set_header("x-request-id", self.request_id)

    def check_xsrf_cookie(self) -> None:
        """Say 401 to a bad token, where Jupyter would speak of a missing _xsrf argument."""
        # Tornado calls this before prepare() has asked who it is, and Jupyter again after.
        if getattr(self, "_jupyter_current_user", False) is None:
            raise web.HTTPError(401, _BAD_KEY)
        super().check_xsrf_cookie()

    def get_login_url(self) -> str:
        """An API has no login page to go to."""
        raise web.HTTPError(401, _BAD_KEY)

    def fail(self, error: APIError) -> None:
        """Answer with an error; in a stream that has begun it is the last event."""
        self.log.warning(
            "%s %s failed: %d %s (%s)",
            self.request.method,
            self.request.path,
            error.status,
            error.code or error.type,
            self.request_id,
        )
        if self._headers_written:
            self.write(self.stream_failure(error))
            self.finish(set_content_type="text/event-stream")
            return
        self.set_status(error.status, _phrase(error.status))
        for name, value in error.headers.items():
            self.set_header(name, value)
        self.finish(json.dumps(self.error_body(error)))

    def stream_failure(self, error: APIError) -> bytes:
        """The last event of a stream that failed."""
        return encode(error.body(self.request_id))

    def error_body(self, error: APIError) -> dict[str, Any]:
        """An error in place of an answer."""
        return error.body(self.request_id)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What Tornado and Jupyter raise themselves, in OpenAI's shape and without a traceback."""
        raised = (kwargs.get("exc_info") or (None, None))[1]
        if isinstance(raised, web.HTTPError) and raised.log_message:
            # Tornado formats it with its arguments when it logs; a client gets the same words.
            message = raised.log_message % raised.args if raised.args else raised.log_message
        elif status_code == 500:
            self.log.error("request %s failed", self.request_id, exc_info=kwargs.get("exc_info"))
            message = f"The server failed; its log says more under {self.request_id}."
        elif status_code == 403 and not self.check_host():
            message = (
                "The server does not answer to this Host name: its options "
                "ServerApp.allow_remote_access and ServerApp.local_hostnames decide which it does."
            )
        elif status_code == 405:
            message = f"{self.request.method} is not allowed on {self.request.path}."
        else:
            message = _phrase(status_code)
        code = "invalid_api_key" if status_code == 401 else None
        self.fail(APIError(status_code, message, code=code))


Verb = Callable[..., Awaitable[None] | None]


def verb(action: str) -> Callable[[Verb], Verb]:
    """An HTTP verb for those whom the server knows and its authorizer lets do ``action``.

    It may raise ``APIError`` and the core's errors; the client gets them as OpenAI's.
    """

    def decorate(method: Verb) -> Verb:
        @wraps(method)
        async def answer(self: BaseHandler, *args: str, **kwargs: str) -> None:
            # Whoever asks for anything here will want an answer of Claude's next.
            self.gateway.preload()
            try:
                if action == "execute":
                    check_budget(self.key)
                await ensure_async(method(self, *args, **kwargs))
            except (APIError, ClaudeError, StoreError) as error:
                self.fail(as_api_error(error))

        return web.authenticated(authorized(action=action)(answer))

    return decorate


class NotFoundHandler(BaseHandler):
    """Any other path under /v1."""

    @web.authenticated
    def _not_found(self, *args: str) -> None:
        """Say in JSON that there is nothing here."""
        raise web.HTTPError(
            404, "Unknown request URL: %s %s.", self.request.method, self.request.path
        )

    get = post = put = patch = delete = _not_found


def _phrase(status: int) -> str:
    """HTTP's words for a status; 529 is Anthropic's own."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded"


def as_api_error(error: APIError | ClaudeError | StoreError) -> APIError:
    """What a client is told of an error of any room."""
    match error:
        case APIError():
            return error
        case ClaudeError():
            return from_core(error)
        case LeaseTimeout():
            return APIError(409, str(error), code="conversation_busy", param="conversation_id")
        case _:
            return APIError(503, str(error), code="store_unavailable")
