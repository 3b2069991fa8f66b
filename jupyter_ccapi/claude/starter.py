"""Start what slots need: the SDK itself, the probe of the CLI, processes, warm and cold."""

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .capabilities import PUBLIC, Capabilities
from .cli import CLI
from .errors import ClaudeError, InvalidOption
from .guard import Guard
from .history import split_open
from .slots import Slot, Wanted
from .spares import Plan

if TYPE_CHECKING:
    from .launcher import Launcher
    from .process import Process

logger = logging.getLogger(__name__)

Probe = Callable[[CLI], Awaitable[Capabilities]]


class Starter:
    """Starts the processes of one pool. ``failures`` counts warm ones that failed before their
    turn began; ``capabilities`` is what the probe has found.
    """

    def __init__(
        self,
        find: Callable[[], CLI],
        environment: Mapping[str, str],
        probe: Probe | None,
        *,
        patience: float,
    ) -> None:
        self.capabilities = PUBLIC
        self.failures = 0
        self._patience = patience
        self._find = find
        self._environment = environment
        self._probe = probe
        self._guard = Guard()
        self._launcher: asyncio.Task[Launcher] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._probed: tuple[Path, int, int] | None = None

    def preload(self) -> None:
        """Begin to import the SDK."""
        if self._launcher is None:
            self._launcher = asyncio.get_running_loop().create_task(self._load())

    async def find_out(self) -> None:
        """Ask the probe, once for each executable: it may be updated under a running server."""
        if self._probe is None:
            return
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._ask(self._probe))
        await asyncio.shield(self._probing)

    async def prepare(self, slot: Slot, wanted: Wanted) -> "Process":
        """Have the slot's process hold what is wanted: the warm one that it was given, else, also
        where that one fails in any way, a new one.

        Raises ``CLINotFound``, ``CLIStartFailed`` or ``InvalidOption``.
        """
        cli, launcher = self._find(), await self._loaded()
        if wanted.options.max_tokens is not None:
            # An answer that is cut off is not to be asked for again: how to see to that depends.
            await self.find_out()
        if slot.process is not None:
            try:
                await self._warm_up(slot.process, launcher, cli, wanted)
                return slot.process
            except InvalidOption:
                raise
            except Exception as error:
                # Nothing was asked of the model yet, so nothing is lost.
                logger.debug("A warm process failed, a new one is started: %s", error)
                self.failures += 1
                slot.process.kill()
                await slot.process.close()
                slot.process, slot.warmth = None, "cold"
        complete, waiting = split_open(wanted.session.history or ())
        if not waiting:
            return await launcher.start(cli, wanted.options, wanted.session)
        # A CLI that resumes a turn whose tools have not answered takes it as broken off.
        await self.find_out()
        if not self.capabilities.seed:
            raise InvalidOption(
                "history",
                "This version of Claude Code cannot go on with a tool call of another process.",
            )
        session = replace(wanted.session, history=complete)
        process = await launcher.start(cli, wanted.options, session)
        try:
            await process.hold([*complete, *waiting])
        except BaseException:
            # Nobody knows of it yet.
            await process.close()
            raise
        return process

    async def spare(self, plan: Plan) -> "Process":
        """Start a spare. Raises as ``prepare`` does."""
        cli, launcher = self._find(), await self._loaded()
        if plan.owner is None:
            return await launcher.start_spare(cli, plan.options, persist=plan.persist)
        return await launcher.start_ahead(
            cli, plan.options, persist=plan.persist, able=self.capabilities
        )

    async def close(self) -> None:
        """Stop whatever is under way, and the guard."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        if self._launcher is not None:
            await asyncio.wait([self._launcher])
        try:
            await asyncio.to_thread(self._guard.close)
        except RuntimeError:  # no more threads: the interpreter is about to exit
            self._guard.close()

    async def _warm_up(
        self, process: "Process", launcher: "Launcher", cli: CLI, wanted: Wanted
    ) -> None:
        options = wanted.options
        if not process.initialized:
            await launcher.bind(process, cli, options, persist=wanted.session.persist)
        process.toolbox.fill(options.tools)
        if process.model != options.model:
            await process.hold([])
            await process.switch_model(options.model)
        await process.set_max_tokens(options.max_tokens)
        await process.hold(wanted.session.history or ())

    async def _ask(self, probe: Probe) -> None:
        try:
            cli = self._find()
            status = cli.path.stat()
            identity = (cli.path, status.st_mtime_ns, status.st_size)
            if identity != self._probed:
                self._probed = identity
                self.capabilities = await probe(cli)
        except (ClaudeError, OSError) as error:
            logger.warning("What Claude Code can do could not be found out: %s", error)

    async def _loaded(self) -> "Launcher":
        self.preload()
        assert self._launcher is not None
        return await asyncio.shield(self._launcher)

    async def _load(self) -> "Launcher":
        # Not on the loop that serves everybody else.
        module: Any = await asyncio.to_thread(importlib.import_module, f"{__package__}.launcher")
        launcher: Launcher = module.Launcher(self._guard, self._environment, self._patience)
        return launcher
