"""What a conversation of a kernel runs with: what stays, and what is for one cell alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude import Options, Tool, client_tool
from jupyter_ccapi.claude.options import Mode


@dataclass(frozen=True, slots=True)
class Settings:
    """What a conversation keeps until it is given anew.

    `tools` names the tools that there are (None: all), and has rules: `Bash(git *)` allows that
    without asking. `sdk` are further options of `ClaudeAgentOptions`, by their own names.
    """

    mode: Mode = "agent"
    model: str | None = None
    permission: str | None = None
    system: str | None = None
    tools: tuple[str, ...] | None = None
    mcp: Mapping[str, Any] | None = None
    cwd: str = ""
    sdk: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What of it is kept over a restart, as plain JSON. Servers have secrets in their settings,
        and options may be callbacks: of those only the names are kept (`missing`).
        """
        missing = [*(f"--mcp {name}" for name in self.mcp or ()), *self.sdk]
        kept = asdict(replace(self, sdk={}, mcp=None))
        del kept["sdk"], kept["mcp"]
        return {**kept, "missing": missing}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> tuple["Settings", list[str]]:
        """The settings that were kept, and the names of what was not. Where options were not, which
        may have forbidden something, nothing is allowed either. Raises `TypeError` for what is none
        of them.
        """
        kept = dict(told)
        missing = [str(name) for name in kept.pop("missing", ())]
        tools = kept.get("tools")
        settings = cls(**{**kept, "tools": None if tools is None else tuple(tools)})
        if any(not name.startswith("--mcp ") for name in missing):
            names = tuple(tool for tool in settings.tools or () if "(" not in tool)
            settings = replace(settings, permission=None, tools=names or None)
        return settings, missing


@dataclass(frozen=True, slots=True)
class ForThisCell:
    """What counts for one prompt alone; `budget` is in USD."""

    schema: Mapping[str, Any] | None = None
    effort: str | None = None
    budget: float | None = None
    max_turns: int | None = None


def to_options(
    settings: Settings,
    cell: ForThisCell,
    kernel_tools: Iterable[Tool] = (),
    *,
    own_checkpoints: bool = False,
) -> Options:
    """What the core runs a prompt with. With `own_checkpoints` Claude Code keeps those of files,
    where there can be no snapshots.
    """
    sdk: dict[str, Any] = dict(settings.sdk)
    tools: tuple[Tool, ...] = ()
    if settings.mode == "agent":
        names = _names(settings.tools)
        tools = tuple(tool for tool in kernel_tools if names is None or tool.name in names)
        ours = {tool.name for tool in kernel_tools}
        for option in ("allowed_tools", "disallowed_tools"):
            if sdk.get(option):
                sdk[option] = [_rule(rule, ours) for rule in sdk[option]]
        if names is not None:
            sdk["tools"] = [name for name in names if name not in ours]
        rules = [_rule(rule, ours) for rule in settings.tools or () if "(" in rule]
        if rules:
            sdk["allowed_tools"] = [*sdk.get("allowed_tools", ()), *rules]
        if settings.permission is not None:
            sdk["permission_mode"] = settings.permission
        if settings.mcp:
            given = sdk.get("mcp_servers")
            sdk["mcp_servers"] = {**(given if isinstance(given, dict) else {}), **settings.mcp}
        if own_checkpoints:
            sdk.setdefault("enable_file_checkpointing", True)
    if cell.max_turns is not None:
        sdk["max_turns"] = cell.max_turns
    return Options(
        mode=settings.mode,
        model=settings.model,
        system_prompt=settings.system,
        cwd=Path(settings.cwd),
        effort=cell.effort,
        tools=tools,
        schema=cell.schema,
        asks=settings.mode == "agent",
        budget_usd=cell.budget,
        sdk=sdk,
    )


def _rule(rule: str, ours: Collection[str]) -> str:
    """A rule in Claude Code's words: the kernel's own tools it knows by longer names, and it allows
    them as a whole or not at all.
    """
    name = rule.partition("(")[0]
    return client_tool(name) if name in ours else rule


def _names(tools: Sequence[str] | None) -> list[str] | None:
    """The tools that there are, by a list of names and rules; None for all, also where there are
    rules alone: those allow, and take nothing away.
    """
    if tools is None or (tools and all("(" in tool for tool in tools)):
        return None
    return list(dict.fromkeys(tool.partition("(")[0] for tool in tools))
