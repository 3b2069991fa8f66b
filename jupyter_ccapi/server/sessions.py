"""Sessions over HTTP: whose they are, what they may have, and how they end."""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_ccapi.bridge.host import Host, told_before
from jupyter_ccapi.bridge.remote import FORBIDDEN, Hello, NotAdmitted, RelayDoor
from jupyter_ccapi.bridge.session import Session
from jupyter_ccapi.bridge.sessions import Busy, New, NoSuchSession, TooMany
from jupyter_ccapi.bridge.sessions import Sessions as AllSessions
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.claude import ClaudeError, Pool, Watcher
from jupyter_ccapi.claude.cli_sessions import CLISessions
from jupyter_ccapi.config import ServerOptions
from jupyter_ccapi.openai.errors import APIError, invalid
from jupyter_ccapi.store import Store, StoredSession

from .access import is_limited
from .principal import Principal, owner_of_this_server
from .session_hosts import CannotOpen, SessionHosts
from .session_settings import SessionRules, SessionWish, check_servers, check_texts

_DAY = 86400.0
_ID = re.compile(r"session_[0-9a-f]{32}")
# Seconds for what clients have asked to end with their sessions.
_LAST_WORK = 1.0
# What Claude Code runs with elsewhere, whoever starts it there says.
_FOR_LOCAL = (
    "model",
    "cwd",
    "permission_mode",
    "allowed_tools",
    "system_prompt",
    "mcp_servers",
    "max_budget_usd",
)


class Sessions:
    """The sessions of one server, as its options allow them. ``kernel_secret`` is what kernels of
    this machine bring theirs by; ``watcher`` watches those that run here; ``acted`` is called when
    something happens in one.
    """

    def __init__(
        self,
        options: ServerOptions,
        store: Store,
        pool: Pool,
        rules: SessionRules,
        folder: Path,
        *,
        kernel_secret: str,
        watcher: Watcher,
        acted: Callable[[], None],
    ) -> None:
        self._options = options
        self._store = store
        self._rules = rules
        self._hosts = SessionHosts(pool, rules, folder, watcher)
        self._expired_at = 0.0
        self._working: set[asyncio.Task[None]] = set()
        self._all = AllSessions(
            store,
            self._open_host,
            self._vet,
            idle_timeout=options.session_idle_timeout,
            most=options.max_sessions,
            kernel_secret=kernel_secret,
            kernel_owner=owner_of_this_server().id,
            acted=acted,
        )

    async def create(self, asked: Mapping[str, Any], who: Principal) -> tuple[Session, str | None]:
        """Begin a session, or go on with one (``resume``), and, for one whose conversation runs
        elsewhere, the secret that lets that in once. Raises ``APIError``.
        """
        self._rules.check_agents()
        _check_unlimited(who)
        await self.expire()
        asked = {name: value for name, value in asked.items() if value is not None}
        check_texts(asked)
        before = await self._before(asked.get("resume"), who)
        with _explained():
            if before is None:
                new = await self._new(asked, who)
                return await self._all.create(
                    new, history=await _said_before(new, self._rules.kept)
                )
            new = await self._again(asked, who, before)
            return await self._all.resume(who.id, before.id, new)
        raise AssertionError("unreachable")

    async def get(self, who: Principal, id: str) -> Session:
        """A session of this one's, open or closed. Raises ``APIError`` 404."""
        with _explained():
            _check_id(id)
            return await self._all.get(who.id, id)
        raise AssertionError("unreachable")

    async def listed(self, who: Principal) -> list[Session]:
        """Those that are not closed, the oldest first."""
        return await self._all.list(who.id)

    async def delete(self, who: Principal, id: str) -> None:
        """End a session, and forget it. Raises ``APIError``: 404, 403 for who may only watch."""
        _check_unlimited(who)
        with _explained():
            _check_id(id)
            await self._all.delete(who.id, id)
        await self._hosts.forget(id)

    async def door(self, id: str, secret: str, hello: Hello) -> RelayDoor:
        """Where a conversation comes in that runs elsewhere. Raises ``Refused``."""
        if not _ID.fullmatch(id):
            raise NotAdmitted(str(NoSuchSession(id)), FORBIDDEN)
        return await self._all.door(id, secret, hello)

    def work(self, doing: Coroutine[Any, Any, None]) -> None:
        """Have something done that was asked of a session; it outlives the connection of whoever
        asked, and not the server.
        """
        task = asyncio.get_running_loop().create_task(doing)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def may_approve(self, who: Principal) -> bool:
        """Whether this one may allow what Claude asks for."""
        return who.key is None or self._options.keys_may_approve

    @property
    def running(self) -> bool:
        """Whether a turn runs in any, that does not wait for a person."""
        return self._all.running

    async def expire(self) -> None:
        """At most once a day: forget those that were closed so long ago that they are not kept any
        more. Raises ``StoreError``.
        """
        now = time.time()
        if not self._options.keep_days or now - self._expired_at < _DAY:
            return
        self._expired_at = now
        older_than = now - self._options.keep_days * _DAY
        await self._store.sessions.expire(older_than)
        for id in await self._hosts.older(older_than):
            if await self._store.sessions.get(id) is None:
                await self._hosts.forget(id)

    async def close(self) -> None:
        """End them with the server; the next one goes on with them."""
        await self._all.close()
        if working := set(self._working):
            # What was asked of a conversation elsewhere may wait for that without end.
            _, late = await asyncio.wait(working, timeout=_LAST_WORK)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _before(self, id: str | None, who: Principal) -> StoredSession | None:
        """The session that is to be gone on with, if it is one of ours."""
        ours = id is not None and _ID.fullmatch(id)
        found = await self._store.sessions.get(str(id)) if ours else None
        return found if found is not None and found.owner == who.id else None

    async def _new(self, asked: Mapping[str, Any], who: Principal) -> New:
        """A session that was not there before."""
        pinned = asked.get("pinned", False)
        if asked.get("source", "local") == "relay":
            _check_none(asked, ("resume", *_FOR_LOCAL))
            return New(who.id, _nothing_known(), {}, "relay", pinned)
        check_servers(asked.get("mcp_servers", {}), who)
        wish, options = await self._rules.check(SessionWish.of(asked), who.id)
        about = {
            "model": options.model,
            "cwd": wish.cwd,
            "permission_mode": options.sdk["permission_mode"],
        }
        if (session := asked.get("resume")) is not None:
            if who.key is not None:
                raise invalid(
                    "resume",
                    "An API key can resume the sessions of this server alone, and this is none: "
                    f"{session!r}.",
                    code="session_not_found",
                )
            adopted = await self._rules.adoptable(session, Path(str(wish.cwd)))
            wish = wish.with_fields({"adopts": adopted})
        return New(who.id, about, wish.kept(), "local", pinned)

    async def _again(self, asked: Mapping[str, Any], who: Principal, before: StoredSession) -> New:
        """A session that was there before, with what is asked of it now."""
        place, about = before.settings["place"], dict(before.settings["about"])
        if asked.get("source", place) != place:
            raise invalid("source", f"The source of this session is {place!r}, and stays that.")
        pinned = asked.get("pinned", about.get("pinned", False))
        known = {name: about.get(name) for name in _nothing_known()}
        if place != "local":
            _check_none(asked, _FOR_LOCAL)
            return New(who.id, known, {}, place, pinned)
        check_servers(asked.get("mcp_servers", {}), who)
        old = SessionWish.of(before.settings["wish"])
        wish, options = await self._rules.check(old.with_fields(asked), who.id)
        if wish.cwd != old.cwd:
            raise invalid("cwd", f"This session works in {old.cwd!r}, and stays there.")
        if "model" in asked:
            known["model"] = options.model
        mode = asked.get("permission_mode", known["permission_mode"])
        known["permission_mode"] = self._rules.permission_mode(mode)
        return New(who.id, known, wish.kept(), "local", pinned)

    async def _open_host(
        self,
        id: str,
        owner: str,
        kept: Mapping[str, Any],
        tell: Callable[[dict[str, Any]], None],
    ) -> Host:
        return await self._hosts.open(await self._all.get(owner, id), kept, tell)

    async def _vet(self, session: Session, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a client's command becomes by the server's options; what runs elsewhere has its
        own. Raises ``Refused``.
        """
        here = session.about["source"] == "local"
        try:
            match command:
                case {"type": "set_permission_mode", "mode": mode} if here:
                    self._rules.permission_mode(mode)
                case {"type": "set_model", "model": name} if here:
                    return {**command, "model": await self._rules.model(name, session.owner)}
        except (APIError, ClaudeError) as error:
            raise Refused(str(error)) from error
        return command


def _check_id(id: str) -> None:
    """Raise ``NoSuchSession`` for what is none's, and not worth a look at the store."""
    if not _ID.fullmatch(id):
        raise NoSuchSession(id)


def _check_unlimited(who: Principal) -> None:
    """Raise ``APIError`` 403 for who may only watch."""
    if who.key is not None and is_limited(who.key):
        raise APIError(
            403,
            f"The API key {who.key.name!r} is for certain models or has a budget; it may watch "
            "sessions, and neither begin nor end any.",
            code="not_allowed",
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Tell a client of HTTP what a session has refused."""
    try:
        yield
    except NoSuchSession as error:
        raise APIError(404, str(error), param="session_id", code="session_not_found") from error
    except CannotOpen as error:
        raise error.cause from error
    except TooMany as error:
        raise APIError(429, str(error), code="too_many_sessions") from error
    except Busy as error:
        raise APIError(409, str(error), code="session_busy") from error
    except Refused as error:
        raise APIError(400, str(error)) from error


def _nothing_known() -> dict[str, Any]:
    """What is told of a session before its conversation has said what it runs with."""
    return {"model": None, "cwd": None, "permission_mode": None}


def _check_none(asked: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in asked:
            raise invalid(
                name,
                f"{name} is not for a session with the source 'relay': what Claude Code runs with "
                "is given to `jupyter ccapi relay` there.",
            )


async def _said_before(new: New, kept: CLISessions) -> list[dict[str, Any]]:
    """What was said in the session of Claude Code's own that a new one goes on with."""
    if (session := new.wish.get("adopts")) is None:
        return []
    said = await kept.messages(session, Path(str(new.wish["cwd"])))
    return told_before(said, None)
