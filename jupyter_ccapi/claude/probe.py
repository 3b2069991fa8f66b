"""Find out what the CLI at hand can do beyond its public face, once for each of its versions.

What is found is kept in a file, one for each version of the CLI, the SDK and the probe itself, so
that servers and kernels of one user share it and none stands in another one's way.
"""

import asyncio
import importlib
import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any, Protocol

from .capabilities import Capabilities
from .cli import CLI, version
from .errors import CLIStartFailed

logger = logging.getLogger(__name__)

# Goes up when the experiments change: what others have found counts no longer.
_REVISION = 2
# A CLI that could not do everything may have been out of breath: it is asked again after so many
# seconds.
_DOUBTED_AFTER = 24 * 3600.0


class SentRequest(Protocol):
    """What a model was sent: ``body`` is the JSON of a request to Anthropic's Messages API."""

    @property
    def body(self) -> Any:
        """All of it."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Its ``messages``."""

    @property
    def system_text(self) -> str:
        """Its system prompt, as one text."""


class LoopbackModel(Protocol):
    """A model on this machine that the probe's CLI talks to: no account, no cost.

    It follows the directives of ``jupyter_ccapi.demo.directives`` in a prompt: ``[[say TEXT]]`` and
    ``[[write PATH TEXT]]``.
    """

    def environment(self, home: Path) -> dict[str, str]:
        """The variables that lead a CLI with this home to it."""

    @property
    def main_requests(self) -> Sequence[SentRequest]:
        """What it was sent for conversations, in order."""


class CapabilityProbe:
    """Finds out once per CLI version what it can do, with the real CLI on a model of this machine.

    ``model`` makes a model that runs while it is entered, ``cache`` is the folder for what is
    found, ``patience`` is how many seconds each experiment may take. It belongs to one event loop.
    """

    def __init__(
        self,
        model: Callable[[], AbstractContextManager[LoopbackModel]],
        cache: Path,
        *,
        patience: float = 10.0,
    ) -> None:
        self._model = model
        self._cache = cache
        self._patience = patience
        self._known: dict[tuple[Path, int, int], Capabilities] = {}
        self._running = asyncio.Lock()

    async def __call__(self, cli: CLI) -> Capabilities:
        """What this CLI can do. Those who ask while it is being found out share the answer.

        Raises ``CLIStartFailed`` where it cannot be found out at all.
        """
        executable = _identity(cli)
        async with self._running:
            if executable not in self._known:
                self._known[executable] = await self._look_up(cli)
            return self._known[executable]

    async def _look_up(self, cli: CLI) -> Capabilities:
        found_for = {
            "cli": await version(cli),
            "sdk": installed_version("claude-agent-sdk"),
            "probe": _REVISION,
        }
        name = "-".join(["capabilities", *map(str, found_for.values())])
        path = self._cache / (re.sub(r"[^\w.+-]", "_", name) + ".json")
        kept = await asyncio.to_thread(_read, path, found_for)
        if kept is not None:
            return kept
        began = time.monotonic()
        found = await self._find_out(cli)
        logger.debug("%s: %s, in %.1f s", cli.path, found, time.monotonic() - began)
        await asyncio.to_thread(_write, path, found_for, found)
        return found

    async def _find_out(self, cli: CLI) -> Capabilities:
        # The SDK takes seconds to import, and not on the loop that serves everybody else.
        experiments: Any = await asyncio.to_thread(
            importlib.import_module, f"{__package__}.experiments"
        )
        try:
            with TemporaryDirectory(prefix="ccapi-probe-", ignore_cleanup_errors=True) as folder:
                async with _entered(self._model()) as model:
                    found: Capabilities = await experiments.find_out(
                        cli, model, home=Path(folder), patience=self._patience
                    )
        except OSError as error:
            raise CLIStartFailed(
                f"What {cli.path} can do cannot be found out here: {error}."
            ) from error
        return found


@asynccontextmanager
async def _entered(model: AbstractContextManager[LoopbackModel]) -> AsyncIterator[LoopbackModel]:
    """Enter it in a thread, since it may have to load and to listen first."""
    entering = asyncio.create_task(asyncio.to_thread(model.__enter__))
    try:
        yield await asyncio.shield(entering)
    finally:
        await asyncio.wait([entering])
        if entering.exception() is None:
            model.__exit__(None, None, None)


def _identity(cli: CLI) -> tuple[Path, int, int]:
    """Another one after every update of the executable."""
    try:
        status = cli.path.stat()
    except OSError as error:
        raise CLIStartFailed(f"{cli.path} cannot be run: {error.strerror or error}.") from error
    return cli.path, status.st_mtime_ns, status.st_size


def _read(path: Path, found_for: dict[str, Any]) -> Capabilities | None:
    """What was found before; None where that is nothing, or nothing to rely on."""
    try:
        kept = json.loads(path.read_bytes())
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(kept, dict) or kept.get("found_for") != found_for:
        return None
    found = kept.get("capabilities")
    if not isinstance(found, dict) or found.keys() != Capabilities.__dataclass_fields__.keys():
        return None
    if not all(isinstance(value, bool) for value in found.values()):
        return None
    if not all(found.values()) and age > _DOUBTED_AFTER:
        return None
    return Capabilities(**found)


def _write(path: Path, found_for: dict[str, Any], found: Capabilities) -> None:
    """Keep what was found, whole or not at all. Where it cannot be kept it is found out again."""
    content = json.dumps({"found_for": found_for, "capabilities": asdict(found)}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A name and a file of its own for each writer; only its owner may read it.
        descriptor, name = mkstemp(prefix=f".{path.stem}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content + "\n")
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("What Claude Code can do could not be kept in %s: %s", path, error)
