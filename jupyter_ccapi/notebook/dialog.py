"""One conversation of a kernel: its settings, its turns, its checkpoints."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_ccapi.claude import (
    ClaudeError,
    Conversation,
    Event,
    Options,
    Tool,
    Turn,
    TurnEnd,
    Usage,
)
from jupyter_ccapi.claude.history import Content, Message
from jupyter_ccapi.claude.record import Checkpoint
from jupyter_ccapi.claude.rewinding import Rewinder
from jupyter_ccapi.claude.timeline import Timeline

from .home_loop import waits_for_us
from .live import LiveTurn
from .settings import ForThisCell, Settings, to_options

if TYPE_CHECKING:
    from .desk import Desk
    from .sharing import Shared, Sharing

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Dialog:
    """A conversation as the kernel's thread knows it. `name` is what cells call it by, `id` what
    it is kept under.

    What is sent runs with `settings` as they are then. `live` is the turn that runs, or ran last.
    """

    def __init__(self, desk: "Desk", name: str, id: str, settings: Settings) -> None:
        self.name = name
        self.id = id
        self.settings = settings
        self.live: LiveTurn | None = None
        self.turns = 0
        self.usage = Usage()
        self.cost_usd = 0.0
        self._desk = desk
        self.tools: tuple[Tool, ...] = desk.tools_for(self)
        self._timeline: Timeline | None = None
        self._conversation: Conversation | None = None
        self._opening = asyncio.Lock()
        self._sharing: Sharing | None = None
        self._adopted: dict[str, object] | None = None
        self._listeners: list[Callable[[], None]] = []

    def send(self, content: Content, cell: ForThisCell) -> LiveTurn:
        """Send a prompt from the running cell. Raises `ClaudeError` where the conversation waits
        for just that: within a tool or callback of its own turn.
        """
        if waits_for_us(self.name):
            raise ClaudeError(
                "This code runs within a turn of the same conversation, which waits for it: ask in "
                "another one, Claude()."
            )
        self._desk.refresh()
        self._desk.home.enter()
        settings = self.settings

        async def send() -> Turn:
            conversation = await self._opened()
            conversation.options = await self._options(settings, cell)
            return conversation.send(content)

        self.live = LiveTurn(self._desk.core, send)
        return self.live

    def note(self, event: Event) -> None:
        """Count what a turn has cost, and tell those who watch, once it has ended."""
        if isinstance(event, TurnEnd):
            self.turns += 1
            self.usage += event.usage
            self.cost_usd += event.cost_usd
            self.tell()

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have this called after each turn and rewind; returns what ends that."""
        self._listeners.append(call)
        return lambda: self._listeners.remove(call) if call in self._listeners else None

    def tell(self) -> None:
        """Tell those who watch."""
        for call in list(self._listeners):
            try:
                call()
            except Exception:
                logger.exception("What was to be told of a change in the conversation has failed")

    def stop(self) -> None:
        """The user has stopped code of the turn that runs: end it, without waiting for that."""
        if self.live is not None and not self.live.over:
            self.live.stopped_here = True
            self.live.begin_interrupt()

    async def shown(self) -> None:
        """Wait until the cell shows what has come of the turn that runs: code that is about to run
        holds the drawing up.
        """
        if self.live is not None:
            await self.live.shown()

    def note_variables(self, names: Sequence[str]) -> None:
        """Variables that code of the running turn has set."""
        if self.live is not None:
            self.live.note_variables(names)

    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints, in their order. Blocks."""

        async def listed() -> list[Checkpoint]:
            await self._opened()
            assert self._timeline is not None
            return self._timeline.checkpoints

        return self._desk.wait(listed())

    @property
    def can_undo(self) -> bool:
        """Whether a rewind can be taken back."""
        return self._timeline is not None and bool(self._timeline.record.rewinds)

    def rewinding(self, act: Callable[[Rewinder], Awaitable[T]]) -> T:
        """Do something with its checkpoints. Blocks. Raises `ClaudeError`."""

        async def acting() -> T:
            return await (await self._opened()).rewinding(act)

        try:
            return self._desk.wait(acting())
        finally:
            self.tell()

    def messages(self) -> list[Message]:
        """All that was said, as far as Claude Code still has it. Blocks."""

        async def read() -> list[Message]:
            return await (await self._opened()).messages()

        return self._desk.wait(read())

    def fork(self, id: str, number: int | None) -> None:
        """Keep a copy of it, as it was before a prompt (None: as it is), under another id. Blocks.
        Raises `ClaudeError`.
        """

        async def copy() -> None:
            conversation = await self._opened()
            await conversation.fork(id, number)

        self._desk.wait(copy())

    def share(self) -> "Shared":
        """Publish it on the notebook's server, for clients to watch, approve and rewind; where it
        is shared. Blocks. Raises `ClaudeError`.
        """
        from .sharing import Shared

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ClaudeError("Share a conversation from a cell of a notebook.") from None
        if self.live is not None and not self.live.over:
            raise ClaudeError("A turn is running in this conversation: share it when it has ended.")
        # What clients have Claude run in the kernel runs for whoever asks here, now.
        self._desk.home.enter()
        sharing = self._desk.wait(self._share(loop))

        def stop() -> None:
            if self._desk.core.running:
                self._desk.core.call(sharing.stop)

        return Shared(sharing.session_id, sharing.url, stop)

    def adopt(self, session: str) -> None:
        """Go on with a session that Claude Code itself has kept."""
        self._adopted = {"session": session, "answered": True}

    def close(self) -> None:
        """End its process, without waiting for that; what is kept of it stays."""
        if self._desk.core.running:
            self._desk.closing[self.id] = self._desk.core.submit(self.closed())

    async def closed(self) -> None:
        """End its process; returns when somebody else may have the conversation. For the core's
        loop.
        """
        async with self._opening:
            if self._sharing is not None:
                await self._sharing.stop()
            if self._conversation is not None:
                await self._conversation.close()
            if self._timeline is not None:
                await self._timeline.close()

    async def _opened(self) -> Conversation:
        async with self._opening:
            if self._conversation is None:
                if (before := self._desk.closing.pop(self.id, None)) is not None:
                    await asyncio.wait({asyncio.wrap_future(before)})
                chat = self.settings.mode == "chat"
                self._timeline = await Timeline.open(
                    self._desk.timelines,
                    self.id,
                    workspace=None if chat else Path(self.settings.cwd),
                    store=self._desk.snapshots,
                    about=self._about(self.settings),
                )
                if self._timeline.record.head is None:
                    self._timeline.record.head = self._adopted
                self._conversation = Conversation(
                    self._desk.pool,
                    to_options(self.settings, ForThisCell(), self.tools),
                    id=self.id,
                    timeline=self._timeline,
                )
        return self._conversation

    async def _share(self, loop: asyncio.AbstractEventLoop) -> "Sharing":
        from .sharing import Sharing

        if self._sharing is not None and not self._sharing.over:
            return self._sharing
        conversation = await self._opened()

        def changed(event: Mapping[str, Any]) -> None:
            if event["type"] in ("rewound", "result"):
                with suppress(RuntimeError):  # the kernel's loop is closed: nobody watches
                    loop.call_soon_threadsafe(self.tell)

        notebook = self._desk.notebook
        self._sharing = await Sharing.begin(
            conversation,
            {"name": self.name},
            changed=changed,
            options=self._for_a_client,
            change=self._changed_by_a_client,
            protected=lambda: [notebook] if notebook is not None else [],
        )
        return self._sharing

    async def _for_a_client(self) -> Options:
        """What a prompt runs with that comes from elsewhere."""
        settings = self.settings
        budget = self._desk.options.budget_usd if settings.mode == "agent" else 0.0
        return await self._options(settings, ForThisCell(budget=budget or None))

    def _changed_by_a_client(self, given: Mapping[str, Any]) -> None:
        names = {"model": "model", "permission_mode": "permission"}
        self.change(**{names[name]: value for name, value in given.items()})

    async def _options(self, settings: Settings, cell: ForThisCell) -> Options:
        assert self._timeline is not None
        if settings.mode == "agent" and self._timeline.workspace != Path(settings.cwd):
            await asyncio.to_thread(self._timeline.work_in, Path(settings.cwd))
        self._timeline.record.about = self._about(settings)
        own = await self._timeline.refused()
        return to_options(settings, cell, self.tools, own_checkpoints=own)

    def _about(self, settings: Settings) -> dict[str, object]:
        return {
            "name": self.name,
            "notebook": str(self._desk.notebook or ""),
            "settings": settings.told(),
        }

    def change(self, **settings: Any) -> None:
        """Have these settings from the next prompt on; `sdk` adds to the options that there are."""
        if "sdk" in settings:
            settings["sdk"] = {**self.settings.sdk, **settings["sdk"]}
        self.settings = replace(self.settings, **settings)
