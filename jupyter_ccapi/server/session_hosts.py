"""Opens the conversations of those sessions that run in this server."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_ccapi.bridge.host import Host
from jupyter_ccapi.bridge.session import Session
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.claude import ClaudeError, Conversation, Options, Pool, Watcher
from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.openai.errors import APIError

from .session_settings import SessionRules, SessionWish

logger = logging.getLogger(__name__)


class CannotOpen(Refused):
    """A conversation cannot be opened; ``cause`` is why."""

    def __init__(self, cause: APIError | ClaudeError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class SessionHosts:
    """Opens them with the processes of ``pool``; their checkpoints are kept in ``folder``. Each is
    watched by ``watcher``.
    """

    def __init__(self, pool: Pool, rules: SessionRules, folder: Path, watcher: Watcher) -> None:
        self._pool = pool
        self._watcher = watcher
        self._rules = rules
        # Those of notebooks and requests are beside it: nobody goes on there with one of ours.
        self._timelines = folder / "timelines" / "sessions"
        self._snapshots = folder / "snapshots"

    async def open(
        self, session: Session, kept: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]
    ) -> Host:
        """Open the conversation of a session where it stands, with the wish that was kept of it and
        the model and permission mode that it was given since. Raises ``CannotOpen``, also where
        the server's options do not allow that any more.
        """
        wish = SessionWish.of(kept)
        try:
            options = await self._options(session, wish)
            budget = self._rules.budget(wish)
            timeline = await self._open(session.id, session.owner, wish)
        except (APIError, ClaudeError) as error:
            raise CannotOpen(error) from error
        if await timeline.refused():
            # Claude Code's own checkpoints stand in for snapshots.
            chosen = {**options.sdk, "enable_file_checkpointing": True}
            options = replace(options, sdk=chosen)
        conversation = Conversation(
            self._pool, options, owner=session.owner, id=session.id, timeline=timeline
        )
        conversation.watchers.add(self._watcher)
        conversation.budget_usd, conversation.cost_usd = budget, session.cost_usd
        return Host(conversation, tell)

    async def forget(self, id: str) -> None:
        """Let go of the checkpoints of a session that is no more."""
        path = self._path(id)
        if not await asyncio.to_thread(path.exists):
            return
        try:
            timeline = await self._open(id, "", SessionWish())
            await timeline.delete()
        except ClaudeError as error:
            logger.warning("The checkpoints of session %s are not all gone: %s", id, error)

    async def older(self, than: float) -> list[str]:
        """The ids of sessions whose checkpoints nobody has changed since then (Unix seconds)."""
        return await asyncio.to_thread(self._older, than)

    def _older(self, than: float) -> list[str]:
        found: list[str] = []
        for path in self._timelines.glob("*.json"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < than:
                    found.append(path.stem)
        return found

    async def _options(self, session: Session, wish: SessionWish) -> Options:
        options = await self._rules.options(wish, session.owner)
        mode = self._rules.permission_mode(session.about.get("permission_mode"))
        model = session.about.get("model")
        return replace(options, model=model, sdk={**options.sdk, "permission_mode": mode})

    async def _open(self, id: str, owner: str, wish: SessionWish) -> Timeline:
        timeline = await Timeline.open(
            self._timelines,
            id,
            workspace=Path(wish.cwd) if wish.cwd else None,
            store=self._snapshots,
            about={"owner": owner, "settings": wish.told()},
        )
        if timeline.record.head is None and wish.adopts is not None:
            timeline.record.head = {"session": wish.adopts, "answered": True}
        return timeline

    def _path(self, id: str) -> Path:
        return self._timelines / f"{id}.json"
