"""What a conversation runs with, and how that becomes options of the SDK."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import InvalidOption

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions

#: ``chat`` has no tools and reads no settings; ``agent`` is Claude Code in a folder.
Mode = Literal["chat", "agent"]

# What a CLI must not inherit from a notebook server: with these a tool could open kernels and
# terminals.
_SERVER_SECRETS = (
    "JUPYTER_TOKEN",
    "JUPYTERHUB_API_TOKEN",
    "JPY_API_TOKEN",
    "JUPYTERHUB_CLIENT_SECRET",
    "CONFIGPROXY_AUTH_TOKEN",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How a conversation is run.

    ``model`` is a name that the CLI takes (None: its default). ``system_prompt`` None means none
    in chat mode, Claude Code's own in agent mode. ``cwd`` None means the process's folder.
    ``effort`` is one of low, medium, high, xhigh, max. ``sdk`` holds any further option of
    ``ClaudeAgentOptions``, by its own name; it wins over what the mode sets.
    """

    mode: Mode = "chat"
    model: str | None = None
    system_prompt: str | None = None
    cwd: Path | None = None
    effort: str | None = None
    sdk: Mapping[str, Any] = field(default_factory=dict)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that a CLI may have: without the notebook server's own secrets.

    ``CLAUDECODE`` goes too: with it the CLI believes that it runs inside another one.
    """
    dropped = {*_SERVER_SECRETS, "CLAUDECODE"}
    return {name: value for name, value in environment.items() if name not in dropped}


def to_sdk(options: Options, *, cli_path: Path) -> "ClaudeAgentOptions":
    """Turn our options into the SDK's.

    Raises ``InvalidOption`` for a name that the SDK does not know.
    """
    from claude_agent_sdk import ClaudeAgentOptions

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
        **options.sdk,
    }
    try:
        return ClaudeAgentOptions(**chosen)
    except TypeError as error:
        unknown = sorted(set(options.sdk) - set(ClaudeAgentOptions.__dataclass_fields__))
        name = unknown[0] if unknown else "sdk"
        raise InvalidOption(name, f"claude-agent-sdk has no option {name!r}.") from error


def _chat(options: Options) -> dict[str, Any]:
    """No tools, no settings files, no commands; the CLI's own retries off, so that an error is
    told at once.
    """
    return {
        "tools": [],
        "setting_sources": [],
        "strict_mcp_config": True,
        "permission_mode": "dontAsk",
        "system_prompt": options.system_prompt or "",
        "env": {"CLAUDE_CODE_MAX_RETRIES": "0"},
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
    }
