"""Serve requests from the core; it knows neither HTTP nor Tornado."""

import logging
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude import Limits, Options, Pool, Turn, find_cli, query, resolve_model
from jupyter_ccapi.claude.errors import ClaudeError, UnknownModel
from jupyter_ccapi.claude.probe import CapabilityProbe
from jupyter_ccapi.config import ServerOptions
from jupyter_ccapi.demo import OfflineModel
from jupyter_ccapi.openai.chat_request import ChatRequest
from jupyter_ccapi.openai.models import model_list, model_object

from .._version import __version__
from .health import examine
from .stats import Stats

logger = logging.getLogger(__name__)


class Gateway:
    """The core of one server, as its options set it up. In ``folder`` it keeps what it found out
    about the CLI, and a place of their own where chat processes stand.
    """

    def __init__(self, options: ServerOptions, *, folder: Path) -> None:
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
            ),
            find=lambda: find_cli(options.cli_path),
            environment=options.cli_environment,
            probe=CapabilityProbe(OfflineModel, folder),
        )
        self.stats = Stats(self.pool, __version__)

    def preload(self) -> None:
        """Make ready what the first request would wait for, short of starting a process."""
        self.pool.preload()

    async def chat(self, request: ChatRequest, owner: str) -> Turn:
        """Begin to answer a chat. Raises ``UnknownModel`` before anything is spent."""
        model = await self._model(request.model or self._options.default_model or None, owner)
        self._chat_folder.mkdir(parents=True, exist_ok=True)
        options = Options(
            model=model,
            system_prompt=request.system_prompt,
            cwd=self._chat_folder,
            effort=request.effort,
        )
        return query(self.pool, request.prompt, options, owner=owner, history=request.history)

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
        """End all processes."""
        await self.pool.close()

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
