"""Sessions: conversations that many clients have together, over the WebSocket of each."""

from typing import Any

from jupyter_ccapi.openai.validation import check, read_json

from .base import BaseHandler, verb


class _Handler(BaseHandler):
    """What the routes of sessions share."""

    def socket_url(self, kind: str, id: str) -> str:
        """The address of one of a session's sockets, as this client reaches the server."""
        scheme = "wss" if self.request.protocol == "https" else "ws"
        mount = self.request.path.rpartition("/v1/sessions")[0]
        return f"{scheme}://{self.request.host}{mount}/ws/{kind}/{id}"

    def session_object(self, described: dict[str, Any]) -> dict[str, Any]:
        """A session, and where to reach it."""
        return {**described, "ws_url": self.socket_url("session", described["session_id"])}


class SessionsHandler(_Handler):
    """All sessions of an owner."""

    @verb("read")
    async def get(self) -> None:
        """List those that are not closed, the oldest first."""
        found = await self.gateway.sessions.listed(self.principal)
        data = [self.session_object(one.describe()) for one in found]
        self.finish({"object": "list", "sessions": data})

    @verb("execute")
    async def post(self) -> None:
        """Begin one, or go on with one."""
        fields = check(read_json(self.request.body or b"{}"), "session")
        session, secret = await self.gateway.sessions.create(fields, self.principal)
        answer = self.session_object(session.describe())
        if secret is not None:
            url = self.socket_url("cli", session.id)
            command = f"jupyter ccapi relay --url {url}"
            answer["relay"] = {"url": url, "secret": secret, "command": command}
        self.set_status(201)
        self.finish(answer)


class SessionHandler(_Handler):
    """One session."""

    @verb("read")
    async def get(self, id: str) -> None:
        """Describe it."""
        session = await self.gateway.sessions.get(self.principal, id)
        self.finish(self.session_object(session.describe()))

    @verb("execute")
    async def delete(self, id: str) -> None:
        """End it, and its process."""
        await self.gateway.sessions.delete(self.principal, id)
        self.finish({"object": "session.deleted", "deleted": True, "session_id": id})


default_handlers = [
    (r"/v1/sessions", SessionsHandler),
    (r"/v1/sessions/([\w.-]+)", SessionHandler),
]
