"""A conversation with an audience."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

from .client import GONE, Client, Role
from .host import failed
from .log import Entry, Log
from .source import Refused, Source

logger = logging.getLogger(__name__)

#: What a session does. ``starting``: its source was never there yet; ``source_lost``: it was.
State = Literal["starting", "idle", "running", "waiting_permission", "source_lost", "closed"]

#: Has the host's rules say what a command becomes. Raises ``Refused``.
Vet = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Session:
    """One session: its log, its clients, and the source that runs its conversation.

    ``about`` is what is told of it: ``model``, ``cwd``, ``permission_mode``, ``source`` and
    ``pinned``. ``pending`` are the permission requests that wait, by their ids. ``changed`` is
    called when something is to be kept of it, ``acted`` when something happens that counts as
    activity.
    """

    def __init__(
        self,
        id: str,
        owner: str,
        log: Log,
        about: Mapping[str, Any],
        *,
        created_at: float,
        vet: Vet,
        changed: Callable[["Session"], None] = lambda session: None,
        acted: Callable[[], None] = lambda: None,
        turns: int = 0,
        cost_usd: float = 0.0,
    ) -> None:
        self.id = id
        self.owner = owner
        self.log = log
        self.about = dict(about)
        self.created_at = created_at
        self.turns = turns
        self.cost_usd = cost_usd
        self.source: Source | None = None
        self.clients: set[Client] = set()
        self.pending: dict[str, Entry] = {}
        # The number of the prompt of the turn that is under way.
        self.turn_since: int | None = None
        self.closed = False
        self._closing = False
        self.idle_since = time.monotonic()
        self._lost = False
        self._vet = vet
        self._changed = changed
        self._acted = acted
        self._shown = self.state

    @property
    def state(self) -> State:
        """What it does now."""
        if self._closing:
            return "closed"
        if self._lost:
            return "source_lost"
        if self.source is None:
            return "starting"
        if self.pending:
            return "waiting_permission"
        return "running" if self.turn_open else "idle"

    @property
    def turn_open(self) -> bool:
        """Whether a turn is under way."""
        return self.turn_since is not None

    @property
    def quiet(self) -> bool:
        """Whether nobody is there and nothing happens."""
        return not self.clients and (self._lost or not (self.turn_open or self.pending))

    def describe(self) -> dict[str, Any]:
        """It, as the API shows it."""
        requests = [json.loads(entry.text) for entry in self.pending.values()]
        return {
            "object": "session",
            "session_id": self.id,
            "state": self.state,
            **self.about,
            "created_at": int(self.created_at),
            "clients": len(self.clients),
            "pending_permissions": [
                {"request_id": one["request_id"], "request": one["request"]} for one in requests
            ],
            "turns": self.turns,
            "cost_usd": self.cost_usd,
            "last_event_id": self.log.shown,
        }

    def greeting(self, client: Client) -> dict[str, Any]:
        """The first that a client is sent."""
        return {
            "type": "session_init",
            "session_id": self.id,
            "state": self.state,
            "client_id": client.id,
            "role": client.role,
            **self.about,
            "last_event_id": self.log.shown,
        }

    def pending_before(self, seen: int) -> list[str]:
        """The permission requests that wait, of those that a client has seen before; they bear no
        number again.
        """
        waiting = [json.loads(one.text) for one in self.pending.values() if one.id <= seen]
        for event in waiting:
            del event["event_id"]
        return [json.dumps(event) for event in waiting]

    def take(self, event: dict[str, Any], mark: str = "") -> None:
        """Something has happened, the source says; ``mark`` is what it knows that by, where it may
        have to tell it again.
        """
        if self.closed:
            return
        if event["type"] == "settings":
            new = {name: value for name, value in event.items() if name != "type"}
            if new.items() <= self.about.items():
                return
            self.about |= new
            self._changed(self)
            self._tell_status()
            return
        entry = self.log.append(event, mark)
        self._note(event, entry)
        if event["type"] == "result":
            self.turns += 1
            self.cost_usd += event.get("cost_usd") or 0.0
        if event["type"] in ("user_message", "result"):
            self._changed(self)
        self.idle_since = time.monotonic()
        self._wake()

    def recall(self, events: Sequence[tuple[int, str]]) -> None:
        """What has happened since its last turn began, before the server was started anew."""
        for id, text in events:
            self._note(json.loads(text), Entry(id, text))

    def _note(self, event: Mapping[str, Any], entry: Entry) -> None:
        match event:
            case {"type": "user_message"}:
                self.turn_since = entry.id
            case {"type": "permission_request", "request_id": str(id)}:
                self.pending[id] = entry
            case {"type": "permission_resolved", "request_id": str(id)}:
                self.pending.pop(id, None)
            case {"type": "result"}:
                self.turn_since = None
                self.pending.clear()

    def _wake(self) -> None:
        if self.state in ("running", "idle"):
            self._acted()
        self.wakes()
        if self.state != self._shown:
            self._tell_status()

    def lost(self, reason: str) -> None:
        """The source is gone, and may come back."""
        if not self._lost and not self.closed:
            self._lost = True
            self.take({"type": "source_lost", "reason": reason})

    def back(self, source: Source, *, info: Mapping[str, Any]) -> None:
        """The source is there, for the first time or again; ``info`` are its settings."""
        lost, self._lost, self.source = self._lost, False, source
        if lost:
            self.take({"type": "source_back"})
        self.take({"type": "settings", **info})
        self._changed(self)
        self._wake()

    def missing(self, source: Source) -> None:
        """Its source was there before the server was started anew, and may come back."""
        self._lost, self.source = True, source

    def wakes(self) -> None:
        """There may be more in the log that clients may be sent."""
        for client in list(self.clients):
            client.wake()

    def was_closed(self) -> None:
        """It is one of earlier times."""
        self._closing = self.closed = True

    def end_turn(self, why: str) -> None:
        """The turn that was under way has no end of its own: its source did not live to see it."""
        for id in list(self.pending):
            resolved = {"type": "permission_resolved", "request_id": id, "behavior": "deny"}
            self.take({**resolved, "by": None, "scope": "once", "message": why})
        if self.turn_open:
            self.take(failed(why))

    def join(
        self,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int, str], None],
        *,
        role: Role = "actor",
        may_approve: bool = True,
        last_event_id: int | None = None,
    ) -> Client:
        """A client comes; ``Client.run`` is to be run, and ``leave`` called when it is gone."""
        cursor = min(last_event_id or 0, self.log.last_id)
        id = f"client_{uuid4().hex[:12]}"
        client = Client(self, id, send, close, role=role, may_approve=may_approve, cursor=cursor)
        if self.closed:
            client.say_goodbye(GONE, "the session is closed")
        self.clients.add(client)
        self._tell_status()
        return client

    def left(self, client: Client) -> None:
        """A client is gone."""
        if client in self.clients:
            self.clients.discard(client)
            self.idle_since = time.monotonic()
            self._tell_status()

    async def do(self, client: Client, command: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Do what a client asks; what it is to be answered. Raises ``Refused``."""
        kind = command["type"]
        if kind == "ping":
            return {"type": "pong"}
        if client.role == "viewer":
            raise Refused("This connection may see, and not act: it has joined as a viewer.")
        if self._closing:
            raise Refused("This session is closed.")
        if kind == "permission_response" and command["request_id"] not in self.pending:
            raise Refused(
                f"No permission request {command['request_id']!r} waits for an answer: the first "
                "answer counts."
            )
        if not client.may_approve and self._allows(command):
            raise Refused(
                "An API key may not give permission here, nor change files; the server's option "
                "keys_may_approve decides that. Its owner can, with the server's token or in the "
                "browser."
            )
        command = await self._vet({name: one for name, one in command.items() if name != "id"})
        if self.source is None:
            raise Refused("The session's source is not there yet.")
        return await self.source.do(command, client.id)

    def _allows(self, command: Mapping[str, Any]) -> bool:
        """Whether this would have Claude do what it may not do yet. Here the server's options
        decide which modes there are.
        """
        match command:
            case {"type": "permission_response", "behavior": "allow"}:
                return True
            case {"type": "set_permission_mode"}:
                return bool(self.about.get("source") != "local")
            case {"type": "rewind"}:
                return not command.get("dry_run") and command.get("files") is not False
        return False

    async def close(
        self, *, code: int = GONE, reason: str = "the session was closed", ends_turn: bool = True
    ) -> None:
        """End it: its conversation, and all connections. Without ``ends_turn`` the turn that is
        under way goes on elsewhere.
        """
        if self._closing:
            return
        self._closing = True
        self._tell_status()
        try:
            if self.source is not None:
                await self.source.close()
        except Exception:
            logger.exception("The conversation of session %s was not closed", self.id)
        finally:
            if ends_turn:
                self.end_turn("The session was closed.")
            self.closed = True
            await asyncio.gather(*(client.end(code, reason) for client in list(self.clients)))
            await self.log.close()

    def status(self) -> dict[str, Any]:
        """What it does, for its clients."""
        told = {name: self.about.get(name) for name in ("model", "permission_mode")}
        return {"type": "status", "state": self.state, "clients": len(self.clients), **told}

    def _tell_status(self) -> None:
        self._shown = self.state
        for client in list(self.clients):
            client.tell_status()
