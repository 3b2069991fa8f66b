"""Publish a conversation of this kernel on the notebook's server, for others to watch, approve and
rewind.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from jupyter_ccapi.bridge.dialing import CannotConnect
from jupyter_ccapi.bridge.host import Host, told_before
from jupyter_ccapi.bridge.relay import Relay, RelayRefused
from jupyter_ccapi.bridge.runtime import NoServer, find_server
from jupyter_ccapi.bridge.source import Source
from jupyter_ccapi.bridge.speech import Told
from jupyter_ccapi.claude import ClaudeError, Conversation

from .looks import Bundle, line

#: Whose prompts and answers those are that come from the notebook itself.
NOTEBOOK = "notebook"


@dataclass(frozen=True, slots=True)
class Shared:
    """Where a conversation is shared: its session on the notebook's server, and the address of the
    WebSocket by which clients join it. `stop` ends that; the conversation goes on here.
    """

    session_id: str
    url: str
    stop: Callable[[], None] = field(repr=False, compare=False)

    def _repr_mimebundle_(self, **_: Any) -> Bundle:
        return line(f"Shared as session {self.session_id}: clients join it at {self.url}.")


class Sharing:
    """One conversation on its server. It belongs to the core's loop."""

    def __init__(self, session_id: str, relay: Relay, host: Host) -> None:
        self.session_id = session_id
        self.url = relay.url.replace("/ws/cli/", "/ws/session/")
        self._relay = relay
        self._host = host
        self._running: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._connected = False

    @classmethod
    async def begin(
        cls,
        conversation: Conversation,
        info: Mapping[str, Any],
        *,
        changed: Callable[[Told], None],
        **how: Any,
    ) -> "Sharing":
        """Publish a conversation with all that was said in it. `info` is further to be told of it,
        `changed` hears of what clients change, `how` is the host's. Raises `ClaudeError`.
        """
        try:
            server = find_server()
        except NoServer as error:
            raise ClaudeError(str(error)) from None
        connected = asyncio.Event()
        # A session of its own, each time: what was said while nobody watched is in it, too, in its
        # place.
        id = f"session_{uuid4().hex}"

        async def make(_: Mapping[str, Any] | None) -> Source:
            return host

        relay = Relay(
            server.relay_url(id),
            server.secret,
            make=make,
            info=lambda: {**host.info, **info},
            kind="kernel",
            notice=lambda state, why: connected.set(),
            cafile=server.cafile,
        )

        def tell(event: Told) -> None:
            relay.tell(event)
            changed(event)

        for told in told_before(await conversation.messages(), NOTEBOOK):
            relay.tell(told)
        sharing: Sharing | None = None

        async def end() -> None:
            if sharing is not None:
                sharing.stop()

        host = Host(conversation, tell, name=NOTEBOOK, end=end, **how)
        sharing = cls(id, relay, host)
        await sharing._connect(connected)
        return sharing

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._running is None or self._running.done() or self._stopping is not None

    def stop(self) -> "asyncio.Future[None]":
        """Take it back: what was told until now arrives, and the session's clients see that its
        source is gone; returns what is done then.
        """
        if self._stopping is None:
            self._host.unwatch()
            self._relay.leave()
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        return asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        try:
            await self._relay.flush()
        finally:
            # It says goodbye, also where the core ends meanwhile.
            if self._running is not None:
                self._running.cancel()
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _connect(self, connected: asyncio.Event) -> None:
        """Begin, and wait until it is there. Raises `ClaudeError`."""
        self._running = asyncio.get_running_loop().create_task(self._run())
        first = asyncio.create_task(connected.wait())
        await asyncio.wait([self._running, first], return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if self._running.done():
            self._running.result()
            raise ClaudeError("The server has ended the session at once: look at its log.")
        self._connected = True

    async def _run(self) -> None:
        try:
            await self._relay.run()
        except (CannotConnect, RelayRefused) as error:
            if not self._connected:
                raise ClaudeError(str(error)) from error
            # No cell waits for this; the kernel shows it below the one that ran last.
            sys.stderr.write(
                f"The conversation is not shared any more, as session {self.session_id}: {error} "
                "It goes on here; share it again for another session.\n"
            )
            sys.stderr.flush()
        finally:
            self._host.unwatch()
