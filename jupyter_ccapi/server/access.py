"""How a request shows who it is, beyond Jupyter's own ways: by a key of ours, and in the header of
Anthropic's clients.

A key opens the routes that derive from ``KeyHandler`` and nothing else of the server: Jupyter's own
handlers ask Jupyter's identity provider, to which a key is a wrong token.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import APIHandler
from tornado.httputil import HTTPHeaders
from tornado.web import RequestHandler

from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.store import Key, StoreUnavailable

#: How the secret of every key begins.
SECRET_PREFIX = "sk-ccapi-"

# For so many seconds a key that was found valid counts as that, unless it expires.
_VALID_FOR = 2.0

#: The key with a secret, valid or not; None where there is none.
Verify = Callable[[str], Awaitable[Key | None]]


class KeyIdentity(IdentityProvider):
    """Who shows a key, in Jupyter's terms: it counts as a token (no check of origin or _xsrf), and
    no login cookie is set, which would open kernels and terminals.
    """

    def get_user(self, handler: RequestHandler) -> User:
        """A user named for the key; its id is in the access log, and is no secret."""
        assert isinstance(handler, KeyHandler)
        assert handler.key is not None
        return User(username=f"key:{handler.key.id}", name=handler.key.name)

    def is_token_authenticated(self, handler: RequestHandler) -> bool:
        """A browser never sends a key by itself."""
        return True


_BY_KEY = KeyIdentity()


class KeyHandler(APIHandler):
    """A handler that also takes keys of ours. They are verified by ``ccapi_verify_key`` among the
    application's settings; without that, none is valid.
    """

    #: The key that the request showed, from ``prepare`` on; None for Jupyter's own ways.
    key: Key | None = None
    _verified_at = 0.0

    @property
    def identity_provider(self) -> IdentityProvider:
        """Jupyter's, unless a key has said who it is."""
        return super().identity_provider if self.key is None else _BY_KEY

    async def prepare(self) -> None:  # type: ignore[override]
        """Look for a key, then let Jupyter see who is asking, and whether that suffices."""
        try:
            secret = shown_secret(self.request.headers)
            self.key = await self._find(secret) if secret.startswith(SECRET_PREFIX) else None
            self._verified_at = time.monotonic()
        except APIError as error:
            self.fail(error)
        else:
            await super().prepare()

    async def check_key(self) -> None:
        """See anew whether the key is valid, for what outlasts a request. Raises ``APIError`` 401
        where it is not any more, and 503 where that cannot be seen.
        """
        if self.key is None:
            return
        if time.monotonic() - self._verified_at >= _VALID_FOR:
            found = await self._find(shown_secret(self.request.headers))
            if found is None:
                said = f"There is no API key {self.key.name!r} any more."
                raise APIError(401, said, code="invalid_api_key")
            self.key, self._verified_at = found, time.monotonic()
        check_valid(self.key)

    def fail(self, error: APIError) -> None:
        """Answer with an error; every route has its API's way."""
        raise NotImplementedError

    async def _find(self, secret: str) -> Key | None:
        """The valid key with this secret; what is no key may still be the server's token."""
        verify: Verify | None = self.settings.get("ccapi_verify_key")
        try:
            key = await verify(secret) if verify else None
        except StoreUnavailable as error:
            raise APIError(503, str(error), code="store_unavailable") from error
        if key is not None:
            check_valid(key)
        return key


def shown_secret(headers: HTTPHeaders) -> str:
    """What a request shows as its token or key, "" if nothing. ``x-api-key`` becomes a Bearer
    where there is none, so that Jupyter sees it too.
    """
    bearer = IdentityProvider.auth_header_pat.match(headers.get("Authorization", ""))
    if bearer:
        return bearer[2]
    secret = headers.get("x-api-key", "")
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    return secret


def check_valid(key: Key) -> None:
    """Raises ``APIError`` 401 for a key that was revoked or has expired."""
    if key.revoked:
        raise APIError(401, f"The API key {key.name!r} was revoked.", code="invalid_api_key")
    if key.expired(time.time()):
        when = datetime.fromtimestamp(key.expires_at or 0, UTC)
        said = f"The API key {key.name!r} expired on {when:%Y-%m-%d at %H:%M} UTC."
        raise APIError(401, said, code="invalid_api_key")


def check_budget(key: Key | None) -> None:
    """Before anything is spent. Raises ``APIError`` 429, not to be tried again, for a key whose
    budget is spent.
    """
    if key is not None and key.exhausted:
        said = f"The API key {key.name!r} has spent its budget of {key.budget_usd:g} USD."
        raise APIError(429, said, code="insufficient_quota", should_retry=False)


def check_model(key: Key | None, requested_name: str | None) -> None:
    """Raises ``APIError`` 403 for a model that the key may not use. ``requested_name`` is as the
    client wrote it; a key for certain models needs one.
    """
    if key is None or key.models is None or requested_name in key.models:
        return
    asked = f"use the model {requested_name!r}" if requested_name else "leave the model out"
    said = f"The API key {key.name!r} may not {asked}; it is for {', '.join(key.models) or 'none'}."
    raise APIError(403, said, code="model_not_allowed", param="model")


def is_limited(key: Key) -> bool:
    """Whether a key is for certain models, or for so much money. What happens in a session is not
    one client's alone to spend, nor is its model.
    """
    return key.models is not None or key.budget_usd is not None
