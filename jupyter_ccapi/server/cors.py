"""Which web pages may use the routes from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol).

A page of another origin never gets the browser's cookies along: it shows the token or a key.
"""

import re
from collections.abc import Sequence
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import APIHandler

#: What a page's script may read of an answer; a header that is not here is kept from it.
EXPOSED = (
    "x-request-id",
    "x-ccapi-checkpoint",
    "x-ccapi-conversation-id",
    "x-ccapi-cost-usd",
    "x-ccapi-ignored",
    "x-ccapi-process",
    "x-ccapi-replayed",
    "retry-after",
    "x-should-retry",
)

_METHODS = "GET, POST, PATCH, DELETE"
# What OpenAI's and Anthropic's clients send from a browser.
_REQUEST_HEADER = re.compile(
    "accept|authorization|content-type|idempotency-key|user-agent|x-api-key|x-request-id"
    "|(anthropic|openai|x-stainless)-[a-z0-9-]+"
)
# Seconds that a browser may remember a preflight's answer.
_MAX_AGE = "600"


def cors_headers(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """The headers of any answer to a request with this ``Origin``. ``allowed`` are origins such
    as ``https://app.example``, or ``*`` for all; with none, nothing is said about other pages.
    """
    if not allowed:
        return {}
    # Also where the origin is not allowed: a cache must not give one page's answer to another.
    headers = {"Vary": "Origin"}
    if origin and ("*" in allowed or origin in allowed):
        headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
        headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
    return headers


def preflight_headers(
    origin: str | None, allowed: Sequence[str], requested_headers: str | None
) -> dict[str, str] | None:
    """The headers of the answer to a preflight, whose ``Access-Control-Request-Headers`` are
    ``requested_headers``; None where a page of this origin is not allowed to ask.
    """
    headers = cors_headers(origin, allowed)
    if "Access-Control-Allow-Origin" not in headers:
        return None
    names = [name.strip().lower() for name in (requested_headers or "").split(",")]
    granted = [name for name in names if _REQUEST_HEADER.fullmatch(name)]
    headers["Vary"] = "Origin, Access-Control-Request-Headers"
    headers["Access-Control-Allow-Methods"] = _METHODS
    if granted:
        headers["Access-Control-Allow-Headers"] = ", ".join(granted)
    headers["Access-Control-Max-Age"] = _MAX_AGE
    return headers


class CrossOriginHandler(APIHandler):
    """A handler that pages of other origins may ask: those in ``ccapi_cors_origins`` among the
    application's settings. With none there, Jupyter's own options (``ServerApp.allow_origin``)
    decide as they do for its other routes.
    """

    @property
    def _allowed_origins(self) -> Sequence[str]:
        allowed: Sequence[str] = self.settings.get("ccapi_cors_origins", ())
        return allowed

    def set_default_headers(self) -> None:
        """Those of every answer; as defaults they stay on errors, which a page wants to read."""
        super().set_default_headers()
        for name, value in cors_headers(self.get_origin(), self._allowed_origins).items():
            self.set_header(name, value)

    def set_cors_headers(self) -> None:
        """Jupyter names any origin whose request has a token, unless the options here decide."""
        if not self._allowed_origins:
            super().set_cors_headers()

    @allow_unauthenticated
    def options(self, *args: Any, **kwargs: Any) -> None:
        """Answer a preflight; a browser sends it without the token that the request will have."""
        if not self._allowed_origins:
            super().options(*args, **kwargs)
            return
        requested = self.request.headers.get("Access-Control-Request-Headers")
        granted = preflight_headers(self.get_origin(), self._allowed_origins, requested)
        for name, value in (granted or {}).items():
            self.set_header(name, value)
        self.set_status(204)
        self.finish()
