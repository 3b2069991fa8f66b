"""What a conversation runs with, and how that becomes options of the SDK."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .arguments import check_arguments
from .errors import InvalidOption
from .tools import SERVER, Tool, client_tool

if TYPE_CHECKING:
    from .transport import CLIOptions

#: ``chat`` has no tools and reads no settings; ``agent`` is Claude Code in a folder.
Mode = Literal["chat", "agent"]

# What a CLI must not inherit from a notebook server: with these a tool could open kernels and
# terminals.
_SERVER_SECRETS = (
    "JUPYTER_TOKEN",
    "JUPYTERHUB_API_TOKEN",
    "JPY_API_TOKEN",
    "JUPYTERHUB_CLIENT_SECRET",
    "JUPYTERHUB_CRYPT_KEY",
    "JPY_COOKIE_SECRET",
    "CONFIGPROXY_AUTH_TOKEN",
)

#: What Claude Code does without asking: the SDK's ``PermissionMode`` (that is slow to import).
PERMISSION_MODES = ("default", "acceptEdits", "plan", "dontAsk", "auto", "bypassPermissions")

#: How hard the model may think.
EFFORTS = ("low", "medium", "high", "xhigh", "max")

#: What the CLI is given for the tool by which it asks for permission: it asks over its stdio.
ASKS_US = "stdio"

# In milliseconds: the CLI's own default, which a variable of the user's may shorten.
_CALL_TIMEOUT = 100_000_000

# The model's answers are always streamed.
_STREAMED = {"CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1"}

# Options of the SDK that say which process this is, which session it holds and how it is read:
# that is the core's to know.
_OURS = (
    "cli_path",
    "continue_conversation",
    "debug_stderr",
    "fork_session",
    "max_buffer_size",
    "resume",
    "resume_session_at",
    "session_id",
    "session_store",
    "stderr",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How a conversation is run.

    ``model`` is a name that the CLI takes (None: its default). ``system_prompt`` None means none
    in chat mode, Claude Code's own in agent mode. ``cwd`` None means the process's folder.
    ``effort`` is one of ``EFFORTS``. ``max_tokens`` is the most that the model may write at once
    (None: the CLI's own bound); an answer that it cuts off ends there. ``tools`` are the caller's
    own, which the model calls beside Claude Code's. ``schema`` is a JSON Schema that the answer
    must fulfil (``TurnEnd.structured_output``); its root is an object. With ``asks`` whoever reads
    the turn is asked what Claude Code would ask a person (``PermissionRequest``); else that is
    denied. ``budget_usd`` is where a turn is ended, by what it has cost until then: the model's
    message under way is still paid for. ``sdk`` holds any further
    option of ``ClaudeAgentOptions``, by its own name; it wins over what the mode sets, ``env``,
    ``extra_args`` and ``mcp_servers`` entry by entry, and adds to ``allowed_tools``. ``arguments``
    are words that a person adds at the end of the CLI's command line.
    """

    mode: Mode = "chat"
    model: str | None = None
    system_prompt: str | None = None
    cwd: Path | None = None
    effort: str | None = None
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    schema: Mapping[str, Any] | None = None
    asks: bool = False
    budget_usd: float | None = None
    sdk: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that a CLI may have: without the notebook server's own secrets.

    ``CLAUDECODE`` goes too: with it the CLI believes that it runs inside another one.
    """
    dropped = {*_SERVER_SECRETS, "CLAUDECODE"}
    return {name: value for name, value in environment.items() if name not in dropped}


def to_sdk(options: Options, *, cli_path: Path) -> "CLIOptions":
    """Turn our options into the SDK's.

    Raises ``InvalidOption`` for a name that the SDK does not know or that is not the caller's to
    set, and for a value that the CLI could not take.
    """
    from claude_agent_sdk import ClaudeAgentOptions

    from .transport import CLIOptions

    _check(options, set(ClaudeAgentOptions.__dataclass_fields__))
    chosen: dict[str, Any] = {
        "cli_path": cli_path,
        "include_partial_messages": True,
        # Text that comes from elsewhere must not make the CLI read files (@path) or run commands
        # (/name).
        "verbatim_prompts": True,
        "model": options.model,
        "cwd": options.cwd,
        "effort": options.effort,
        **(_chat(options) if options.mode == "chat" else _agent(options)),
    }
    if options.schema is not None:
        chosen["output_format"] = {"type": "json_schema", "schema": dict(options.schema)}
    if options.mode == "chat" or options.tools:
        # Also where there are no tools yet: a spare's are settled when it is claimed. The server
        # itself is put in its place where the process is initialized.
        # Its tools are shown to the model from the start, not only when it searches for some.
        # A call may take as long as whoever answers it: MCP_TOOL_TIMEOUT does not count for it.
        server: dict[str, Any] = {"type": "sdk", "name": SERVER, "instance": None}
        server |= {"alwaysLoad": True, "timeout": _CALL_TIMEOUT}
        chosen["mcp_servers"] = {SERVER: server}
        chosen["allowed_tools"] = allowed_tools(options.tools)
    if options.asks and options.sdk.get("can_use_tool") is None:
        chosen["permission_prompt_tool_name"] = ASKS_US
    for name, value in options.sdk.items():
        chosen[name] = _joined(name, chosen.get(name), value)
    return CLIOptions(**chosen, arguments=options.arguments)


def is_rule(rule: str) -> bool:
    """Whether the CLI reads a rule from its command line as it is meant: there the first ``)`` ends
    one, and what comes after it is the next (CLI 2.1.330).
    """
    return re.fullmatch(r"[^\s(),]+(\([^()]*\))?", rule) is not None


def allowed_tools(tools: Sequence[Tool]) -> list[str]:
    """The rules for the caller's tools: whoever offers one allows it, unless it is to be asked."""
    if any(tool.asks for tool in tools):
        return [client_tool(tool.name) for tool in tools if not tool.asks]
    return [f"mcp__{SERVER}"]


def check_model(name: str | None) -> None:
    """Raise ``InvalidOption`` for what cannot be the name of a model."""
    if name is not None and not re.fullmatch(r"[^\s-]\S*", name):
        # It becomes a word of a command line, and must not become a flag of it.
        raise InvalidOption("model", f"{name!r} cannot be the name of a model.")


def _joined(name: str, ours: Any, theirs: Any) -> Any:
    if ours and name in ("env", "extra_args", "mcp_servers") and isinstance(theirs, Mapping):
        return {**ours, **theirs}
    if ours and name == "allowed_tools":
        return [*ours, *theirs]
    return theirs


def _check(options: Options, known: set[str]) -> None:
    for name in options.sdk:
        if name not in known:
            raise InvalidOption(name, f"claude-agent-sdk has no option {name!r}.")
        if name in _OURS:
            raise InvalidOption(name, f"The option {name!r} is set by jupyter_ccapi itself.")
    for name in ("allowed_tools", "disallowed_tools"):
        for rule in options.sdk.get(name) or ():
            if not is_rule(str(rule)):
                raise InvalidOption(
                    name,
                    f"The rule {rule!r} cannot be given to Claude Code: it is a tool's name, or "
                    "that and a pattern in parentheses, without parentheses in the pattern.",
                )
    check_model(options.model)
    check_arguments(options.arguments)
    if options.effort is not None and options.effort not in EFFORTS:
        raise InvalidOption(
            "effort", f"The effort {options.effort!r} is not one of {', '.join(EFFORTS)}."
        )
    if options.cwd is not None and not options.cwd.is_dir():
        raise InvalidOption("cwd", f"{str(options.cwd)!r} is not a folder.")


def _chat(options: Options) -> dict[str, Any]:
    """No tools, no settings files, no commands; the CLI's own retries off, so that an error is
    told at once, and where an answer breaks off it is not asked for again from its beginning.
    """
    return {
        "tools": [],
        "setting_sources": [],
        "strict_mcp_config": True,
        "permission_mode": "dontAsk",
        "system_prompt": options.system_prompt or "",
        "env": {
            "CLAUDE_CODE_MAX_RETRIES": "0",
            # A history that is too long is an error; the CLI would send a summary in its place.
            "DISABLE_COMPACT": "1",
            **_STREAMED,
            # All tools are shown to the model from the start, and none that are not the caller's.
            "ENABLE_TOOL_SEARCH": "false",
        },
        "extra_args": {"disable-slash-commands": None},
    }


def _agent(options: Options) -> dict[str, Any]:
    """Claude Code as it is, in its folder, asking before it changes anything."""
    preset: dict[str, Any] = {"type": "preset", "preset": "claude_code"}
    if options.system_prompt is not None:
        preset["append"] = options.system_prompt
    return {
        "tools": {"type": "preset", "preset": "claude_code"},
        "setting_sources": [],
        "permission_mode": "default",
        "system_prompt": preset,
        "env": {
            # Left alone, the CLI tries for three minutes before it says that the model is
            # overloaded.
            "CLAUDE_CODE_MAX_RETRIES": "3",
            # A message that is not streamed would come when its calls are made already.
            **(_STREAMED if options.tools else {}),
        },
    }
