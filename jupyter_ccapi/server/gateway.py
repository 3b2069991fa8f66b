"""Serve requests from the core; it knows neither HTTP nor Tornado."""

import asyncio
import logging
import secrets
from collections.abc import MutableMapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude import (
    Limits,
    Message,
    Options,
    Pool,
    count_tokens,
    find_cli,
    query,
    resolve_model,
)
from jupyter_ccapi.claude.errors import ClaudeError, UnknownModel
from jupyter_ccapi.claude.probe import CapabilityProbe
from jupyter_ccapi.config import ServerOptions
from jupyter_ccapi.demo import OfflineModel
from jupyter_ccapi.openai.answer import Answer
from jupyter_ccapi.openai.fields import check_whole
from jupyter_ccapi.openai.forced import Forced
from jupyter_ccapi.openai.models import model_list, model_object
from jupyter_ccapi.openai.plan import schema_for, tools_for
from jupyter_ccapi.openai.request import AgentWish, Request
from jupyter_ccapi.store import Key, Store, StoreError

from .._version import __version__
from .access import check_model
from .activity import Activity
from .agent import AgentRules
from .answering import Answering
from .conversations import Conversations
from .health import examine
from .idempotency import Recordings
from .images import ImageLoader
from .principal import Principal, owner_of_this_server
from .rewinds import Rewinds
from .session_settings import SessionRules
from .sessions import Sessions
from .stats import Stats
from .threads import Thread, Threads
from .timelines import Timelines

logger = logging.getLogger(__name__)


class Gateway:
    """The core of one server, as its options set it up. In ``folder`` it keeps what it found out
    about the CLI, its conversations and their checkpoints, and a place of their own where chat
    processes stand; ``root`` is the folder that the server shows its users. ``activity`` are
    the times at which Jupyter's extensions were last active, by their names.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        folder: Path,
        root: Path,
        activity: MutableMapping[str, datetime],
    ) -> None:
        self._options = options
        self._chat_folder = folder / "chat"
        self.keep_alive = options.keep_alive
        self.pool = Pool(
            Limits(
                max_concurrent_sessions=options.max_concurrent_sessions,
                max_queue=options.max_queue,
                queue_deadline=options.queue_deadline,
                idle_timeout=options.idle_timeout,
                start_timeout=options.start_timeout,
                turn_timeout=options.turn_timeout,
                warm=options.warm,
                spares=options.spares,
                tool_timeout=options.tool_timeout,
            ),
            find=lambda: find_cli(options.cli_path),
            environment=options.cli_environment,
            probe=CapabilityProbe(OfflineModel, folder),
        )
        self.store = store_of(options, folder)
        self._timelines = Timelines(self.store, folder)
        self.threads = Threads(
            self.store,
            self._timelines,
            keep=options.store_conversations,
            keep_days=options.keep_days,
        )
        self.rules = AgentRules(options, root)
        self._images = ImageLoader(lambda: self.rules.folders, fetch=options.fetch_images)
        self.conversations = Conversations(self.threads, self._images)
        self.rewinds = Rewinds(self.threads, self.rules)
        self.recordings = Recordings()
        self._opening: asyncio.Task[None] | None = None
        self.stats = Stats(self.pool, __version__)
        self._activity = Activity(activity, lambda: self.turns > 0)
        #: What kernels of this machine show that bring their conversations here.
        self.kernel_secret = secrets.token_urlsafe(32)
        self.sessions = Sessions(
            options,
            self.store,
            self.pool,
            SessionRules(self.rules, self._model, self.pool.kept(Options())),
            folder,
            kernel_secret=self.kernel_secret,
            watcher=self.stats,
            acted=self._activity.note,
        )

    @property
    def turns(self) -> int:
        """How many turns run, at the least; those that wait for a person do not."""
        return self.stats.running + self.sessions.running

    def preload(self) -> None:
        """Make ready what the first request would wait for, short of starting a process."""
        self.pool.preload()
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_store())

    async def _open_store(self) -> None:
        try:
            await self.store.open()
            await self.threads.expire()
            await self.sessions.expire()
        except StoreError as error:
            # Chats can do without; what needs it says so again.
            logger.warning("Nothing can be kept: %s", error)

    async def verify_key(self, secret: str) -> Key | None:
        """The key of this server's owner with this secret; what others have made opens theirs."""
        key = await self.store.keys.verify(secret)
        return key if key is not None and key.owner == owner_of_this_server().id else None

    async def answer(self, request: Request, who: Principal) -> Answering:
        """Begin to answer a request. Whatever is wrong with it is said before anything is spent.

        Raises ``APIError`` and ``ClaudeError``.
        """
        self._activity.note()
        async with AsyncExitStack() as held:
            thread = await held.enter_async_context(self.threads.thread(request, who.id))
            forced = Forced.by(request)
            options, whole = await self._prepare(request, thread, who, forced)
            changes = options.mode == "agent" and self.rules.may_change_files(options.sdk)
            await held.enter_async_context(
                self.threads.marked(thread, options.cwd if changes else None)
            )
            turn = query(
                self.pool,
                whole[-1].content,
                options,
                owner=who.id,
                history=whole[:-1],
                # A turn that waits for its client tells what it has cost only when it goes on.
                parks=who.key is None or who.key.budget_usd is None,
            )
            if thread.mark is not None:
                thread.mark.turn = turn
            answer = Answer(request, forced)
            return Answering(request, turn, answer, thread, self.threads, held.pop_all())
        raise AssertionError("unreachable")

    async def count_tokens(self, request: Request, who: Principal) -> int:
        """How many tokens the model would read for a request. Raises as ``answer`` does."""
        thread = Thread(who.id, None, list(request.messages[:-1]), [request.messages[-1]])
        options, whole = await self._prepare(request, thread, who, Forced.by(request))
        return await count_tokens(self.pool, options, whole, owner=who.id)

    async def _prepare(
        self, request: Request, thread: Thread, who: Principal, forced: Forced | None
    ) -> tuple[Options, list[Message]]:
        """What a request runs with, and all messages that the model is to know."""
        settings = self._settings(request, thread)
        asked = settings.get("model") or self._options.default_model or None
        check_model(who.key, asked)
        wish = AgentWish(**settings.get("ccapi", {}))
        mode = self.rules.mode(wish)
        model = await self._model(asked, who.id)
        if mode == "agent":
            thread = await self.threads.whole(thread)
        loaded = await self._images.load([*thread.history, *thread.new])
        whole = check_whole(loaded, request.field)
        thread.new = whole[len(thread.history) :]
        thread.history = whole[: len(thread.history)]
        options = Options(
            model=model,
            system_prompt=_joined(request.instructions, settings.get("system_prompt")),
            effort=request.effort,
            max_tokens=request.max_tokens,
            tools=tools_for(request, whole),
            schema=schema_for(request, forced),
            **self._place(mode, wish),
        )
        return options, whole

    def _settings(self, request: Request, thread: Thread) -> dict[str, Any]:
        """What a request says, and where it says nothing, what its conversation has said before;
        the conversation remembers it.
        """
        system = request.system_prompt
        if request.only_new:
            system = _joined(thread.settings.get("system_prompt"), system)
        said: dict[str, Any] = {"model": request.model, "system_prompt": system}
        if request.agent != AgentWish():
            said["ccapi"] = asdict(request.agent)
        new = {name: value for name, value in said.items() if value is not None}
        thread.remember({**thread.settings, **new})
        return thread.settings

    def _place(self, mode: str, wish: AgentWish) -> dict[str, Any]:
        """Where a process stands, and what it may do there. Raises ``APIError`` 403."""
        if mode == "agent":
            folder, chosen = self.rules.options(wish)
            return {"mode": "agent", "cwd": folder, "sdk": chosen}
        self._chat_folder.mkdir(parents=True, exist_ok=True)
        return {"cwd": self._chat_folder}

    async def models(self, owner: str) -> dict[str, Any]:
        """All model names that can be asked for, in OpenAI's shape; where the CLI cannot be
        asked, those known without it.
        """
        try:
            reported = await self.pool.ask_for_models(owner)
        except ClaudeError as error:
            logger.warning("Claude Code could not be asked for its models: %s", error)
            reported = []
        return model_list(reported, self._options.model_map)

    async def model(self, name: str, owner: str) -> dict[str, Any]:
        """One model by its name, listed or not. Raises ``UnknownModel``."""
        listed: dict[str, dict[str, Any]] = {
            model["id"]: model for model in (await self.models(owner))["data"]
        }
        if name in listed:
            return listed[name]
        target = self._resolve(name)
        assert target is not None
        return model_object(name, answered_by=target)

    async def health(self) -> dict[str, Any]:
        """What Claude Code is here; see ``health.examine``."""
        return await examine(self._options)

    async def close(self) -> None:
        """End all processes, and keep what is still to be kept."""
        self._activity.close()
        await self.sessions.close()
        await self.pool.close()
        await self.threads.close()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        await self.store.close()
        self._timelines.close()

    async def _model(self, name: str | None, owner: str) -> str | None:
        """The CLI's name for a model. A name that is not known yet may be one that the CLI
        reports: it is asked once.
        """
        try:
            return self._resolve(name)
        except UnknownModel:
            if self.pool.reported_models:
                raise
        await self.pool.ask_for_models(owner)
        return self._resolve(name)

    def _resolve(self, name: str | None) -> str | None:
        reported = [
            entry[key]
            for entry in self.pool.reported_models
            for key in ("value", "resolvedModel")
            if entry.get(key)
        ]
        return resolve_model(name, model_map=self._options.model_map, reported=reported)


def store_of(options: ServerOptions, folder: Path) -> Store:
    """Where conversations, responses and keys are kept."""
    return Store(options.database_url) if options.database_url else Store.in_folder(folder)


def _joined(*prompts: str | None) -> str | None:
    return "\n\n".join(prompt for prompt in prompts if prompt) or None
