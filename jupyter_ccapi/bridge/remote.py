"""The server's side of a session whose conversation runs elsewhere: who may bring it, what that
tells, and what it is asked.
"""

import asyncio
import hmac
import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol
from uuid import uuid4

from .link import MAX_FRAME, Inbox, decode, encode
from .relayed import checked, texts
from .source import Refused

#: The version of what both sides say to each other.
VERSION = 1
#: Codes with which a socket is closed: what was said makes no sense, the secret is wrong, somebody
#: else is there; another try, soon, may do.
MALFORMED, FORBIDDEN, TAKEN, AGAIN = 4400, 4403, 4409, 1013

#: The longest hello, in characters: whoever says it is not known yet.
MAX_HELLO = 64 * 1024

# So many commands wait while the conversation is out of reach; and so many ever, since a relay
# knows no more of them by their ids.
_MOST_WAITING = 32
_MOST_UNANSWERED = 500
# Acknowledgements are sent together, so many seconds after the first event.
_ACK_AFTER = 0.1
# Where nothing can be written, so many events are remembered one by one, to be acknowledged.
_MOST_UNSETTLED = 10_000
# Seconds for a relay to hang up.
_GRACE = 5.0
_RUN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_INFO = ("cwd", "model", "permission_mode", "name")
_WRONG = (
    "The secret is not one of this session's, or was used already. Make a new one: "
    "POST /v1/sessions with `resume`."
)
_RESTARTED = "The relay was started anew, and the turn that was under way ended with the old one."
_GONE = "The relay was started anew before this was done: ask again."
_ENDED = "The conversation is not shared any more: it goes on, if it does, where it runs."
_NOT_SHARED = "it is not shared any more"
_ENDING = "The server ends: try again when it has been started anew."


class NotAdmitted(Refused):
    """A relay is turned away; its socket is closed with ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class TryAgain(NotAdmitted):
    """A relay is turned away for now: another try, soon, may do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, AGAIN)


class Written(Protocol):
    """What is asked of a session's log: how much of it is kept for good."""

    last_id: int
    on_written: Callable[[], None]

    @property
    def settled(self) -> int:
        """Nothing up to this number waits to be written."""


class Audience(Protocol):
    """What is asked of a session."""

    @property
    def log(self) -> Written:
        """Where it keeps what it takes."""

    def take(self, event: dict[str, Any], mark: str = "") -> None:
        """Something happened in the conversation; ``mark`` says which event that is."""

    def end_turn(self, why: str) -> None:
        """The turn that may be under way will have no end of its own."""

    def lost(self, reason: str) -> None:
        """The conversation is out of reach."""

    def back(self, source: "Remote", *, info: Mapping[str, Any]) -> None:
        """The conversation is within reach."""


class Socket(Protocol):
    """One connection to a relay. Neither method raises, whatever state the connection is in."""

    def send(self, text: str) -> None:
        """Send one frame."""

    def close(self, code: int, reason: str) -> None:
        """Close it once what was sent before is on its way."""


@dataclass(frozen=True, slots=True)
class Hello:
    """How a relay introduces itself; ``run`` is one conversation object's, over all its
    connections.
    """

    run: str
    kind: str
    info: Mapping[str, Any]

    @classmethod
    def read(cls, text: str | bytes) -> "Hello":
        """Read a connection's first frame. Raises ``NotAdmitted``."""
        try:
            frame = decode(text, most=MAX_HELLO)
        except ValueError as error:
            raise NotAdmitted(str(error), MALFORMED) from None
        if frame["type"] != "hello":
            raise NotAdmitted("The first frame must be `hello`.", MALFORMED)
        if frame.get("version") != VERSION:
            raise NotAdmitted(
                f"This server speaks version {VERSION} with relays, not "
                f"{str(frame.get('version'))[:20]}: use the same jupyter_ccapi on both sides.",
                MALFORMED,
            )
        run, kind, info = frame.get("run"), frame.get("kind"), frame.get("info")
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise NotAdmitted("hello.run must be 16 to 128 random letters or digits.", MALFORMED)
        if kind not in ("relay", "kernel"):
            raise NotAdmitted("hello.kind must be `relay` or `kernel`.", MALFORMED)
        if not isinstance(info, dict):
            raise NotAdmitted("hello.info must be an object.", MALFORMED)
        try:
            known = texts(info, _INFO)
        except ValueError as error:
            raise NotAdmitted(f"hello.info: {error}", MALFORMED) from None
        return cls(run, kind, known)


@dataclass(eq=False, slots=True)
class _Waiting:
    """A command without an answer."""

    frame: str
    answered: asyncio.Future[Mapping[str, Any] | None]


class Remote:
    """The source of such a session. Commands wait while it is out of reach, and are sent again when
    it is back; which of them were done it knows by their ids.
    """

    def __init__(self) -> None:
        self._socket: Socket | None = None
        self._waiting: dict[str, _Waiting] = {}
        self._closed = False
        self._left: str | None = None

    @property
    def connected(self) -> bool:
        """Whether the conversation is within reach."""
        return self._socket is not None

    @property
    def closed(self) -> bool:
        """Whether it was ended."""
        return self._closed

    async def do(self, command: Mapping[str, Any], by: str) -> Mapping[str, Any] | None:
        """As ``Source.do``. While the conversation is out of reach this waits until it is back."""
        if self._closed:
            raise Refused("The session is closed.")
        if self._left is not None:
            raise Refused(self._left)
        id = uuid4().hex
        try:
            frame = encode({"type": "command", "id": id, "command": dict(command), "by": by})
        except ValueError as error:
            raise Refused(f"This cannot be sent on: {error}.") from None
        most = _MOST_WAITING if self._socket is None else _MOST_UNANSWERED
        size = sum(len(one.frame) for one in self._waiting.values())
        if len(self._waiting) >= most or size + len(frame) > MAX_FRAME:
            raise Refused(
                f"{len(self._waiting)} commands wait already for the conversation, which "
                f"{'is out of reach' if self._socket is None else 'does not answer'}: try again "
                "later."
            )
        waiting = _Waiting(frame, asyncio.get_running_loop().create_future())
        self._waiting[id] = waiting
        try:
            if self._socket is not None:
                self._socket.send(frame)
            return await waiting.answered
        finally:
            self._waiting.pop(id, None)

    async def close(self) -> None:
        """Have the relay end the conversation, if it can be reached."""
        self._closed = True
        self.fail("The session was closed.")
        if self._socket is not None:
            self._socket.send(encode({"type": "close"}))
            # The relay hangs up when it has read that; one that does not is not waited for.
            later = asyncio.get_running_loop().call_later
            later(_GRACE, self._socket.close, 1000, "the session was closed")

    def connect(self, socket: Socket) -> None:
        """The conversation is within reach by this socket."""
        self._socket, self._left = socket, None
        for waiting in self._waiting.values():
            socket.send(waiting.frame)

    def disconnect(self) -> None:
        """It is not any more."""
        self._socket = None

    def leave(self, why: str) -> None:
        """The conversation has left, and nobody says that it will be back."""
        self._socket, self._left = None, why
        self.fail(why)

    def fail(self, why: str) -> None:
        """None of the commands that wait will be done."""
        for waiting in self._waiting.values():
            if not waiting.answered.done():
                waiting.answered.set_exception(Refused(why))
        self._waiting.clear()

    def answered(self, frame: Mapping[str, Any]) -> None:
        """A command was answered; one that nobody waits for any more may be, too. Raises
        ``ValueError`` for what is no answer.
        """
        waiting = self._waiting.get(str(frame.get("id")))
        answer = frame.get("answer")
        if frame.get("ok") is True and (answer is None or isinstance(answer, dict)):
            if waiting is not None and not waiting.answered.done():
                waiting.answered.set_result(answer)
        elif frame.get("ok") is False and isinstance(frame.get("error"), str):
            if waiting is not None and not waiting.answered.done():
                waiting.answered.set_exception(Refused(frame["error"]))
        else:
            raise ValueError("A reply has neither an answer nor an error.")


@dataclass(slots=True)
class Admission:
    """Who may bring the conversation of a session, and how far what they told has come. It can be
    kept, so that a relay goes on over a restart of the server. Secrets are kept as digests.

    ``secret`` opens the door to one run (with ``reusable``, to any), ``token`` to that run again.
    Until the token has come back the secret stays good for its run, ``invited``: the welcome may
    have been lost. ``received`` counts what a crash of the server cannot take any more.
    """

    secret: str | None = None
    invited: str | None = None
    token: str | None = None
    run: str | None = None
    received: int = 0
    reusable: bool = False


@dataclass(eq=False)
class RelayDoor:
    """Lets relays in to one session: one at a time, each event of theirs once and in order.

    ``resume`` is what a relay needs to take the conversation up, ``mark`` that of the last event
    that the log has. The session's source is ``remote``.
    """

    session: Audience
    resume: Mapping[str, Any] | None = None
    admission: Admission = field(default_factory=Admission)
    remote: Remote = field(default_factory=Remote)
    mark: str = ""
    _line: "Line | None" = None
    _shut: bool = False
    _inbox: Inbox = field(init=False)
    # Of what was taken and is not settled: up to which number of the log that is, and of the run.
    _unsettled: deque[tuple[int, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        run, _, number = self.mark.rpartition(":")
        if run and run == self.admission.run and number.isdecimal():
            self.admission.received = max(self.admission.received, int(number))
        self._inbox = Inbox(self.admission.received)
        self.session.log.on_written = self._settle

    def invite(self, *, secret: str | None = None, reusable: bool = False) -> str:
        """A new secret, to be shown once; the one before it is not good any more."""
        secret = secret or secrets.token_urlsafe(32)
        self.admission.secret, self.admission.invited = _digest(secret), None
        self.admission.reusable = reusable
        return secret

    def open(self, secret: str, hello: Hello, socket: Socket) -> "Line":
        """Let a relay in, and welcome it. Raises ``NotAdmitted``."""
        if self._shut:
            raise TryAgain(_ENDING)
        admission = self.admission
        same = admission.run == hello.run
        by_token = same and _is(secret, admission.token)
        if not by_token and not self._invited(secret, hello.run):
            raise NotAdmitted(_WRONG, FORBIDDEN)
        if self._line is not None and not same:
            raise NotAdmitted(
                "Another relay runs the conversation of this session: end that first.", TAKEN
            )
        if not by_token:
            admission.invited = hello.run
        elif admission.invited == hello.run and not admission.reusable:
            admission.secret = None
        if (old := self._line) is not None:
            # Its relay has noticed before us that the old connection is dead.
            self._line = None
            self.remote.disconnect()
            old.replaced()
        if not same:
            self._begin(hello.run)
        token = secret if by_token else secrets.token_urlsafe(32)
        admission.token = _digest(token)
        self._settle()
        self._line = line = Line(self, socket)
        count = {"received": self._inbox.received, "kept": admission.received}
        socket.send(encode({"type": "welcome", "token": token, **count, "resume": self.resume}))
        if self.remote.closed:
            socket.send(encode({"type": "close"}))
            return line
        self.remote.connect(socket)
        self.session.back(self.remote, info=hello.info)
        return line

    def cut(self, code: int, reason: str) -> None:
        """Take nothing any more, and let nobody in: the server ends. What was not acknowledged is
        told again, to the next server.
        """
        self._shut = True
        if (line := self._line) is not None:
            self._line = None
            self.remote.disconnect()
            line.cut(code, reason)
        self._settle()

    def taken(self, number: int, event: dict[str, Any]) -> None:
        """An event has come in."""
        if self._inbox.take(number):
            self.session.take(event, f"{self.admission.run}:{number}")
            last = self.session.log.last_id
            unsettled = self._unsettled
            if unsettled and (unsettled[-1][0] == last or len(unsettled) > _MOST_UNSETTLED):
                unsettled.pop()
            unsettled.append((last, number))

    def settled(self) -> int:
        """The number of the last event before which nothing waits to be written."""
        upto, unsettled = self.session.log.settled, self._unsettled
        while unsettled and unsettled[0][0] <= upto:
            self.admission.received = unsettled.popleft()[1]
        return self.admission.received

    def _settle(self) -> None:
        """More was written."""
        self.settled()
        if self._line is not None:
            self._line.acknowledge()

    def ended(self, line: "Line") -> None:
        """The conversation goes on without being told here."""
        if self._line is line:
            self._line = None
            self.remote.leave(_ENDED)
            self.session.end_turn(_ENDED)
            self.session.lost(_NOT_SHARED)

    def _invited(self, secret: str, run: str) -> bool:
        admission = self.admission
        fits = admission.reusable or admission.invited in (None, run)
        return _is(secret, admission.secret) and fits

    def _begin(self, run: str) -> None:
        """Another conversation object than before: it knows nothing of what the last one did."""
        first = self.admission.run is None
        self.admission.run, self.admission.received = run, 0
        self._inbox = Inbox()
        self._unsettled.clear()
        if first:
            return
        self.remote.fail(_GONE)
        self.session.end_turn(_RESTARTED)

    def _left(self, line: "Line", reason: str) -> None:
        if self._line is not line:
            return
        self._line = None
        self.remote.disconnect()
        if not self.remote.closed:
            self.session.lost(reason)


class Line:
    """One relay's connection, from its welcome to its end."""

    def __init__(self, door: RelayDoor, socket: Socket) -> None:
        self._door = door
        self._socket = socket
        self._acked = door.admission.received
        self._ack: asyncio.TimerHandle | None = None
        self._over = False

    def take(self, text: str | bytes) -> None:
        """Take one frame. Never raises: what cannot be taken ends the connection, and the relay is
        told why.
        """
        if self._over:
            return
        try:
            self._take(decode(text))
        except ValueError as error:
            self._refuse(str(error))

    def gone(self, reason: str) -> None:
        """The connection has ended."""
        self._end()
        self._door._left(self, reason)

    def replaced(self) -> None:
        """The same relay has another connection."""
        self.cut(TAKEN, "The relay has connected again.")

    def cut(self, code: int, reason: str) -> None:
        """Nothing is taken any more."""
        self._end()
        self._socket.close(code, reason)

    def acknowledge(self) -> None:
        """Tell the relay what it need not tell again."""
        if self._ack is not None:
            self._ack.cancel()
            self._ack = None
        if (number := self._door.settled()) > self._acked and not self._over:
            self._acked = number
            self._socket.send(encode({"type": "ack", "n": number}))

    def _take(self, frame: Mapping[str, Any]) -> None:
        match frame:
            case {"type": "event", "n": int(number), "event": {"type": str(kind)} as event}:
                if not 0 < number < 2**53:
                    raise ValueError("The number of an event is out of bounds.")
                self._event(number, checked(kind, event))
            case {"type": "reply"}:
                self._door.remote.answered(frame)
            case {"type": "ended"}:
                self.cut(1000, _NOT_SHARED)
                self._door.ended(self)
            case {"type": kind}:
                raise ValueError(f"A frame {kind[:40]!r} cannot be taken here.")

    def _event(self, number: int, event: dict[str, Any]) -> None:
        self._door.taken(number, event)
        if self._ack is None:
            self._ack = asyncio.get_running_loop().call_later(_ACK_AFTER, self.acknowledge)

    def _refuse(self, why: str) -> None:
        self._end()
        refuse(self._socket, NotAdmitted(why, MALFORMED))

    def _end(self) -> None:
        self._over = True
        if self._ack is not None:
            self._ack.cancel()
            self._ack = None


def refuse(socket: Socket, error: Refused) -> None:
    """Tell a relay why it is turned away, and close its socket."""
    code = error.code if isinstance(error, NotAdmitted) else FORBIDDEN
    again = {"again": True} if isinstance(error, TryAgain) else {}
    socket.send(encode({"type": "refused", "error": str(error), **again}))
    socket.close(code, "refused")


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "replace")).hexdigest()


def _is(secret: str, digest: str | None) -> bool:
    return digest is not None and hmac.compare_digest(_digest(secret), digest)
