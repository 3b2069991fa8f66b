"""What a session runs with: as a request asks for it, as it is kept, and as the core takes it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from jupyter_ccapi.claude import Options
from jupyter_ccapi.claude.cli_sessions import CLISessions
from jupyter_ccapi.claude.errors import InvalidOption, UnknownModel
from jupyter_ccapi.claude.tools import SERVER
from jupyter_ccapi.openai.errors import APIError, invalid
from jupyter_ccapi.openai.request import AgentWish
from jupyter_ccapi.store.ids import can_be_kept

from .agent import AgentRules
from .principal import Principal

#: The CLI's name for a model that was asked for, and by whom; raises ``UnknownModel``.
Resolve = Callable[[str | None, str], Awaitable[str | None]]

_SERVER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What an MCP server of each type has, and the one thing that it must have.
_SERVERS = {
    "stdio": ("command", {"type", "command", "args", "env"}),
    "http": ("url", {"type", "url", "headers"}),
    "sse": ("url", {"type", "url", "headers"}),
}


@dataclass(frozen=True, slots=True)
class SessionWish:
    """What was asked for a session that runs here. The server's options decide anew, whenever it is
    opened, whether it gets that.

    ``cwd`` is absolute once it was decided. ``adopts`` is a session of Claude Code's own that it
    goes on with.
    """

    model: str | None = None
    cwd: str | None = None
    permission_mode: str | None = None
    allowed_tools: tuple[str, ...] = ()
    system_prompt: str | None = None
    mcp_servers: Mapping[str, Any] = field(default_factory=dict)
    max_budget_usd: float | None = None
    adopts: str | None = None

    def kept(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "allowed_tools": list(self.allowed_tools)}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """The wish of which this was kept, or that has these fields; what is none of its own, or
        null, is left out.
        """
        known = {one.name for one in fields(cls)}
        found = {name: one for name, one in kept.items() if name in known and one is not None}
        return cls(**{**found, "allowed_tools": tuple(found.get("allowed_tools", ()))})

    def told(self) -> dict[str, Any]:
        """What of it may lie beside the checkpoints: servers have secrets in their settings, and of
        those only the names are told.
        """
        return {**self.kept(), "mcp_servers": sorted(self.mcp_servers)}

    def with_fields(self, asked: Mapping[str, Any]) -> Self:
        """The wish with these fields in the place of its own."""
        return type(self).of(
            {**self.kept(), **{n: one for n, one in asked.items() if one is not None}}
        )


class SessionRules:
    """What sessions may have here. ``kept`` are those that Claude Code itself keeps."""

    def __init__(self, rules: AgentRules, resolve: Resolve, kept: CLISessions) -> None:
        self._rules = rules
        self._resolve = resolve
        self.kept = kept

    async def check(self, wish: SessionWish, owner: str) -> tuple[SessionWish, Options]:
        """The wish with its folder decided, and what the core runs it with. Raises ``APIError`` 400
        that names the field which is wrong, or asks for more than the server's options allow.
        """
        with _as_bad_requests():
            options = await self.options(wish, owner)
        return replace(wish, cwd=str(options.cwd)), options

    async def options(self, wish: SessionWish, owner: str) -> Options:
        """What the core runs a session with. Raises ``APIError`` and ``ClaudeError`` for what it
        may not have (any more).
        """
        folder, chosen = self._allowed(wish)
        # That would bound each process; a session has many, one after another.
        chosen.pop("max_budget_usd", None)
        if wish.mcp_servers:
            chosen["mcp_servers"] = dict(wish.mcp_servers)
        options = Options(
            mode="agent",
            model=await self._resolve(wish.model, owner),
            system_prompt=wish.system_prompt or None,
            cwd=folder,
            asks=True,
            sdk=chosen,
        )
        await asyncio.to_thread(_check_options, options)
        return options

    def budget(self, wish: SessionWish) -> float | None:
        """What the session may spend, in USD; None where nothing bounds it. Raises ``APIError``."""
        most: float | None = self._allowed(wish)[1].get("max_budget_usd")
        return most

    def check_agents(self) -> None:
        """Raise ``APIError`` 403 where there are no agents."""
        self._rules.mode(AgentWish(mode="agent"))

    def permission_mode(self, mode: str | None) -> str:
        """A permission mode that is allowed here. Raises ``APIError`` 403."""
        return self._rules.permission_mode(mode)

    async def model(self, name: str | None, owner: str) -> str | None:
        """The CLI's name for a model. Raises ``UnknownModel``."""
        return await self._resolve(name, owner)

    async def adoptable(self, session: str, folder: Path) -> str:
        """The id of a session that Claude Code itself has kept of this folder. Raises ``APIError``
        400 where it has none.
        """
        with _nothing_there(session):
            id = str(UUID(session))
            if not await asyncio.to_thread(self.kept.is_kept, id, folder):
                raise ValueError(session)
            return id
        raise AssertionError("unreachable")

    def _allowed(self, wish: SessionWish) -> tuple[Path, dict[str, Any]]:
        self.check_agents()
        return self._rules.options(
            AgentWish(
                mode="agent",
                cwd=wish.cwd,
                permission_mode=wish.permission_mode,
                allowed_tools=wish.allowed_tools,
                max_budget_usd=wish.max_budget_usd,
            )
        )


def check_texts(given: object, place: str = "") -> None:
    """Raise ``APIError`` 400 for a text that no program could be given: in its arguments, its
    environment or its input.
    """
    if isinstance(given, str) and not can_be_kept(given):
        raise invalid(
            place,
            f"{place} has U+0000 or half a surrogate pair in it, which no program can be given.",
        )
    if isinstance(given, Mapping):
        for name, value in given.items():
            check_texts(name, place)
            check_texts(value, f"{place}.{name}" if place else name)
    elif isinstance(given, list):
        for number, value in enumerate(given):
            check_texts(value, f"{place}.{number}")


def check_servers(servers: Mapping[str, Mapping[str, Any]], who: Principal) -> None:
    """Raise ``APIError`` 400 for MCP servers that are none, or not this one's to bring."""
    if servers and who.key is not None:
        raise invalid(
            "mcp_servers",
            "Whoever has only an API key may bring no MCP servers: they are programs that run on "
            "this machine unasked.",
        )
    for name, server in servers.items():
        place, kind = f"mcp_servers.{name}", server.get("type", "stdio")
        needed, known = _SERVERS[kind]
        if not _SERVER_NAME.fullmatch(name) or name == SERVER:
            raise invalid(
                "mcp_servers",
                f"An MCP server cannot be called {name!r}: a name is made of letters, digits, "
                f"'_' and '-', and {SERVER!r} is taken.",
            )
        for key in server:
            if key not in known:
                raise invalid(f"{place}.{key}", f"An MCP server of the type {kind!r} has no {key}.")
        if needed not in server:
            missing = f"{place}.{needed}"
            said = f"Missing required parameter: {missing!r}."
            raise invalid(missing, said, code="missing_required_parameter")


def _check_options(options: Options) -> None:
    """Raise ``InvalidOption`` for what the CLI could not be started with. Blocks."""
    from jupyter_ccapi.claude.options import to_sdk

    to_sdk(options, cli_path=Path())


@contextmanager
def _as_bad_requests() -> Iterator[None]:
    """Say of a field what is wrong with it, whoever has found that."""
    try:
        yield
    except APIError as error:
        if error.param in (None, "ccapi.mode"):
            raise
        param = str(error.param).removeprefix("ccapi.")
        raise invalid(param, error.message, code=error.code) from error
    except UnknownModel as error:
        raise invalid("model", str(error), code="model_not_found") from error
    except InvalidOption as error:
        raise invalid(error.field, str(error)) from error


@contextmanager
def _nothing_there(id: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise invalid(
            "resume",
            f"There is nothing to resume by {id!r}: give the id of a session here, or of one which "
            "Claude Code has kept of this folder.",
            code="session_not_found",
        ) from error
