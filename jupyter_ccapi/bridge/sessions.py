"""All sessions of a server: those that are open, and those that the store has of earlier times."""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from uuid import uuid4

from jupyter_ccapi.store import Store, StoredSession, StoreError

from .host import Host
from .log import Log
from .remote import FORBIDDEN, Admission, Hello, NotAdmitted, RelayDoor
from .session import Session
from .source import Refused
from .speech import Told

logger = logging.getLogger(__name__)

#: Where a session's conversation runs.
Place = Literal["local", "relay", "kernel"]

#: Opens the conversation of a local session: its id, its owner, what is kept of it as ``wish``, and
#: whom to tell what happens.
OpenHost = Callable[[str, str, Mapping[str, Any], Callable[[Told], None]], Awaitable[Host]]

# How often it is looked for sessions that nobody needs any more, in seconds, at the most.
_LOOK = 30.0
# So many numbers for events are reserved with a new session.
_FIRST = 1_000
_ID = re.compile(r"session_[0-9a-f]{32}")
_ENDS = "the server ends"
_CUT_OFF = "The server ended in the middle of this turn. Send the prompt again to go on."


class NoSuchSession(Refused):
    """There is none of this id, or it is somebody else's."""

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no session {id!r}.")


class Busy(Refused):
    """A turn runs."""


class TooMany(Refused):
    """No more sessions may be open."""


@dataclass(frozen=True, slots=True)
class New:
    """A session that is to be: what is shown of it as ``about`` (``model``, ``cwd``,
    ``permission_mode``), and what it is opened with as ``wish``; both are kept.
    """

    owner: str
    about: Mapping[str, Any]
    wish: Mapping[str, Any]
    place: Place = "local"
    pinned: bool = False


class Sessions:
    """The sessions of one server; they belong to its event loop.

    ``open_host`` opens conversations that run here; ``vet`` says what a client's command becomes by
    the server's rules. A session ends that has had no client and no turn for ``idle_timeout``
    seconds (0: never) and is not pinned; ``most`` are open at once. ``kernel_secret`` is what
    kernels of this machine show; the sessions that they bring are ``kernel_owner``'s. ``acted`` is
    called when something happens that counts as activity.
    """

    def __init__(
        self,
        store: Store,
        open_host: OpenHost,
        vet: Callable[[Session, Mapping[str, Any]], Awaitable[Mapping[str, Any]]],
        *,
        idle_timeout: float = 3600.0,
        most: int = 200,
        kernel_secret: str = "",
        kernel_owner: str = "",
        acted: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._open_host = open_host
        self._vet = vet
        self._idle_timeout = idle_timeout
        self._most = most
        self._kernel_secret = kernel_secret
        self._kernel_owner = kernel_owner
        self._acted = acted
        self._open: dict[str, Session] = {}
        self._kept: dict[str, StoredSession] = {}
        self._doors: dict[str, RelayDoor] = {}
        self._loading = asyncio.Lock()
        self._saving: dict[str, asyncio.Task[None]] = {}
        self._unsaved: set[str] = set()
        # Those that are about to end; until that is written they are not there for anybody.
        self._ending: dict[str, asyncio.Event] = {}
        self._looking: asyncio.Task[None] | None = None

    async def create(self, new: New, *, history: Sequence[Told] = ()) -> tuple[Session, str | None]:
        """Begin a session, with what was said in it before; and for a relay the secret that opens
        its door once. Raises ``Refused``, and what ``open_host`` raises.
        """
        return await self._begin(new, f"session_{uuid4().hex}", history)

    async def resume(self, owner: str, id: str, new: New) -> tuple[Session, str | None]:
        """Go on with a session by its id, open or closed, from now on as ``new`` says; and for a
        relay a new secret. Raises as ``create`` does, and ``NoSuchSession``.
        """
        session = await self.get(owner, id)
        kept = self._kept.get(id) or await self._store.sessions.get(id)
        if kept is None:
            raise NoSuchSession(id)
        if kept.settings["place"] != new.place:
            raise Refused(f'This session\'s source is "{kept.settings["place"]}", and stays that.')
        if session.turn_open and not session.closed and new.place == "local":
            raise Busy("A turn runs in this session: resume it when that has ended, or stop it.")
        kept = replace(kept, settings={**kept.settings, **_settings(new)}, closed=False)
        if session.closed:
            self._check_most()
            async with self._loading:
                session = self._open.get(id) or await self._from(kept)
        else:
            self._kept[id] = kept
            if session.source is not None and new.place == "local":
                await session.source.close()
                session.source = _Here(self._open_host, session, new.wish)
        session.about |= _about(new)
        secret = await self._settle(session, new)
        await self._store.sessions.put(self._stored(session))
        return session, secret

    async def get(self, owner: str, id: str) -> Session:
        """A session of this owner's; closed ones too. Raises ``NoSuchSession``."""
        session = await self._find(id)
        if session is None or session.owner != owner:
            raise NoSuchSession(id)
        return session

    async def list(self, owner: str) -> list[Session]:
        """Those of an owner that are not closed, the oldest first."""
        kept = await self._store.sessions.list(owner)
        found = [await self._find(one.id) for one in kept]
        return [session for session in found if session is not None and not session.closed]

    async def delete(self, owner: str, id: str) -> None:
        """End a session, and forget it. Raises ``NoSuchSession``."""
        session = await self.get(owner, id)
        async with self._end(session):
            await self._store.sessions.delete(id)

    async def door(self, id: str, secret: str, hello: Hello) -> RelayDoor:
        """Where a relay comes in. A kernel brings its session with it. Raises ``NotAdmitted``."""
        session = await self._find(id)
        brings = hello.kind == "kernel" and _same(secret, self._kernel_secret)
        if brings and (session is None or session.closed) and _ID.fullmatch(id):
            new = New(self._kernel_owner, hello.info, {}, "kernel")
            if session is None:
                session, _ = await self._begin(new, id, ())
            else:
                session, _ = await self.resume(self._kernel_owner, id, new)
        door = self._doors.get(id)
        place = self._kept[id].settings["place"] if id in self._kept else None
        if session is None or session.closed or door is None or place != hello.kind:
            raise NotAdmitted(
                "There is no session here that waits for you: it was closed, or never made.",
                FORBIDDEN,
            )
        if brings:
            # The server may be another one than when this session was first brought.
            door.invite(secret=self._kernel_secret, reusable=True)
        return door

    @property
    def running(self) -> bool:
        """Whether a turn runs in any, that does not wait for a person."""
        return any(session.state == "running" for session in self._open.values())

    async def close(self) -> None:
        """Let go of all of them; they can be gone on with by the next server."""
        if self._looking is not None:
            self._looking.cancel()
        sessions = list(self._open.values())
        await asyncio.gather(*(self._close(session) for session in sessions))
        for id in list(self._saving):
            await self._saved(id)
        self._open.clear()

    async def _begin(
        self, new: New, id: str, history: Sequence[Told]
    ) -> tuple[Session, str | None]:
        if id in self._open:
            return self._open[id], None
        self._check_most()
        now = time.time()
        kept = StoredSession(id, new.owner, now, now, _settings(new), _FIRST, closed=False)
        # Before anybody can find it in the store, and load it.
        session = self._register(self._build(kept, last_id=0), kept)
        try:
            await self._store.sessions.put(kept)
            for event in history:
                session.log.append(event)
            return session, await self._settle(session, new)
        except BaseException:
            self._unregister(id)
            await session.log.close()
            with suppress(StoreError):
                await self._store.sessions.delete(id)
            raise

    async def _settle(self, session: Session, new: New) -> str | None:
        """Give a session its source, or the door by which that will come."""
        if new.place == "local":
            if not isinstance(session.source, _Here):
                session.source = _Here(self._open_host, session, new.wish)
            await session.source.open()
            return None
        door = self._doors.get(session.id)
        if door is None or door.remote.closed:
            self._doors[session.id] = door = RelayDoor(session, resume={"id": session.id})
        if new.place == "kernel":
            door.invite(secret=self._kernel_secret, reusable=True)
            return None
        return door.invite()

    async def _find(self, id: str) -> Session | None:
        """A session that is open, or that the store has."""
        while (ending := self._ending.get(id)) is not None:
            await ending.wait()
        if (session := self._open.get(id)) is not None:
            return session
        async with self._loading:
            return self._open.get(id) or await self._load(id)

    async def _load(self, id: str) -> Session | None:
        kept = await self._store.sessions.get(id)
        if id in self._open or kept is None:
            return self._open.get(id)
        return await self._from(kept)

    async def _from(self, kept: StoredSession) -> Session:
        """The session of which this is kept."""
        settings, id = kept.settings, kept.id
        session = self._build(kept, last_id=kept.last_event_id)
        if kept.closed:
            session.was_closed()
            return session
        if (since := settings.get("turn_since")) is not None:
            after = since - 1
            while events := await self._store.sessions.read(id, after=after):
                session.recall(events)
                after = events[-1][0]
        self._register(session, kept)
        if settings["place"] == "local":
            session.source = _Here(self._open_host, session, settings["wish"])
            session.end_turn(_CUT_OFF)
        else:
            admission = Admission(**settings.get("admission") or {})
            door = RelayDoor(session, resume={"id": id}, admission=admission, mark=kept.mark)
            self._doors[id] = door
            if admission.run is not None:
                session.missing(door.remote)
        return session

    def _build(self, kept: StoredSession, *, last_id: int) -> Session:
        """An object for a session, that nobody knows yet."""
        log = Log(
            kept.id,
            self._store.sessions,
            last_id=last_id,
            reserved=kept.last_event_id,
            news=lambda: session.wakes(),
        )
        session = Session(
            kept.id,
            kept.owner,
            log,
            kept.settings["about"],
            created_at=kept.created_at,
            vet=lambda command: self._vet(session, command),
            changed=self._save,
            acted=self._acted,
            turns=kept.settings.get("turns", 0),
            cost_usd=kept.settings.get("cost_usd", 0.0),
        )
        return session

    def _register(self, session: Session, kept: StoredSession) -> Session:
        self._open[session.id], self._kept[session.id] = session, kept
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        return session

    def _unregister(self, id: str) -> None:
        for known in (self._open, self._kept, self._doors):
            known.pop(id, None)

    def _check_most(self) -> None:
        if len(self._open) >= self._most:
            raise TooMany(
                f"{self._most} sessions are open, and no more may be: DELETE one, or raise the "
                "option max_sessions."
            )

    @asynccontextmanager
    async def _end(self, session: Session) -> AsyncIterator[None]:
        """End one; what is to be written of that is, before anybody else asks for it."""
        id = session.id
        if id in self._ending or self._open.get(id, session) is not session:
            raise NoSuchSession(id)  # somebody else was sooner
        self._ending[id] = over = asyncio.Event()
        try:
            await session.close()
            await self._saved(id)
            yield
        finally:
            self._unregister(id)
            del self._ending[id]
            over.set()

    async def _close(self, session: Session) -> None:
        """Let go of one at the server's end; what runs elsewhere goes on there."""
        if (door := self._doors.get(session.id)) is not None:
            door.cut(1001, _ENDS)
            door.remote.fail("The server ends: ask again when it is back.")
            session.source = None
        await session.close(code=1001, reason=_ENDS, ends_turn=door is None)
        await self._saved(session.id)
        await self._write(session)

    async def _saved(self, id: str) -> None:
        """Wait until nothing more is being written of a session."""
        if (saving := self._saving.get(id)) is not None:
            await asyncio.wait([saving])

    def _save(self, session: Session) -> None:
        self._unsaved.add(session.id)
        if session.id not in self._saving:
            task = asyncio.get_running_loop().create_task(self._write_changes(session))
            self._saving[session.id] = task
            task.add_done_callback(lambda _: self._saving.pop(session.id, None))

    async def _write_changes(self, session: Session) -> None:
        while session.id in self._unsaved:
            self._unsaved.discard(session.id)
            await self._write(session)

    async def _write(self, session: Session, *, closed: bool = False) -> None:
        if session.id not in self._kept:
            return
        try:
            await self._store.sessions.put(self._stored(session, closed=closed))
        except StoreError as error:
            logger.warning("Session %s is not kept: %s", session.id, error)

    def _stored(self, session: Session, *, closed: bool = False) -> StoredSession:
        kept = self._kept[session.id]
        settings = {
            **kept.settings,
            "about": session.about,
            "turns": session.turns,
            "cost_usd": session.cost_usd,
            "turn_since": session.turn_since,
        }
        if (door := self._doors.get(session.id)) is not None:
            settings["admission"] = asdict(door.admission)
        last = session.log.last_id
        self._kept[session.id] = kept = replace(
            kept,
            settings=settings,
            updated_at=time.time(),
            last_event_id=max(last, kept.last_event_id),
            closed=closed or kept.closed,
        )
        return kept

    async def _look(self) -> None:
        """End those that nobody needs any more."""
        while self._idle_timeout:
            await asyncio.sleep(min(self._idle_timeout / 4, _LOOK))
            for session in list(self._open.values()):
                try:
                    if self._is_idle(session):
                        logger.info("Session %s has ended: nobody was there", session.id)
                        async with self._end(session):
                            await self._write(session, closed=True)
                except NoSuchSession:
                    continue  # somebody has just ended it
                except Exception:
                    logger.exception("Session %s could not be ended", session.id)

    def _is_idle(self, session: Session) -> bool:
        """Whether nobody has needed it for long. What runs elsewhere takes nothing here."""
        here = session.id not in self._doors or session.state != "idle"
        old = session.idle_since < time.monotonic() - self._idle_timeout
        return here and old and session.quiet and not session.about["pinned"]


class _Here:
    """The source of a session that runs here. After a start of the server it is opened when a
    client asks for something.
    """

    def __init__(self, open_host: OpenHost, session: Session, wish: Mapping[str, Any]) -> None:
        self._open_host = open_host
        self._session = session
        self._wish = wish
        self._opening = asyncio.Lock()
        self._host: Host | None = None
        self._closed = False

    async def open(self) -> Host:
        """Open the conversation, if it is not. Raises what ``open_host`` raises, and ``Refused``
        where it was closed.
        """
        async with self._opening:
            if self._closed:
                raise Refused("This session is closed.")
            if self._host is None:
                session = self._session
                opened = self._open_host(session.id, session.owner, self._wish, session.take)
                self._host = await opened
                session.back(self, info=self._host.info)
            return self._host

    async def do(self, command: Mapping[str, Any], by: str) -> Mapping[str, Any] | None:
        """As ``Source.do``."""
        return await (await self.open()).do(command, by)

    async def close(self) -> None:
        """As ``Source.close``."""
        async with self._opening:
            self._closed = True
            if self._host is not None:
                await self._host.close()


def _about(new: New) -> dict[str, Any]:
    return {**new.about, "source": new.place, "pinned": new.pinned}


def _settings(new: New) -> dict[str, Any]:
    return {"place": new.place, "about": _about(new), "wish": dict(new.wish)}


def _same(one: str, other: str) -> bool:
    return bool(other) and hmac.compare_digest(one.encode(), other.encode())
