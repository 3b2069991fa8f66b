"""The callbacks in a user's options of claude-agent-sdk: they run where the user is at home."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jupyter_ccapi.claude import client_tool
from jupyter_ccapi.claude.errors import InvalidOption

from .home_loop import HomeLoop

# The SDK warns of tools that the user's can_use_tool is not asked about. That ours which only look
# are among them is no mistake of the user's.
_OURS_ALONE = rf"can_use_tool will not be invoked for: ({client_tool('')}\w+(, )?)+\."

# On a server, once its calls are answered at home: what answered them before.
_MARK = "_ccapi_at_home"


def at_home(sdk: Mapping[str, Any], home: HomeLoop, conversation: str) -> dict[str, Any]:
    """These options with `can_use_tool`, the hooks and the tools of in-process MCP servers called
    on the user's own loop, in turns of this conversation. Raises `InvalidOption` for what has not
    the form that claude-agent-sdk wants.
    """
    options = dict(sdk)
    if callable(may := options.get("can_use_tool")):
        warnings.filterwarnings("ignore", _OURS_ALONE)
        options["can_use_tool"] = home.wrap(may, conversation)
    if options.get("hooks"):
        options["hooks"] = _hooks(options["hooks"], home, conversation)
    servers = options.get("mcp_servers")
    if isinstance(servers, Mapping):
        for server in servers.values():
            if isinstance(server, Mapping) and server.get("type") == "sdk":
                _call_at_home(server.get("instance"), home, conversation)
    return options


def _hooks(hooks: Any, home: HomeLoop, conversation: str) -> dict[str, Any]:
    try:
        return {
            event: [
                replace(matcher, hooks=[home.wrap(hook, conversation) for hook in matcher.hooks])
                for matcher in matchers
            ]
            for event, matchers in hooks.items()
        }
    except (AttributeError, TypeError):
        raise InvalidOption(
            "hooks",
            "hooks is a dict of lists of claude_agent_sdk.HookMatcher, such as "
            '{"PreToolUse": [HookMatcher(matcher="Bash", hooks=[check])]}.',
        ) from None


def _call_at_home(server: Any, home: HomeLoop, conversation: str) -> None:
    """Have a server of `create_sdk_mcp_server` run its tools at home: the SDK runs the server
    itself on the core's loop.
    """
    if isinstance(handlers := getattr(server, "request_handlers", None), dict):
        # mcp before version 2
        from mcp.types import CallToolRequest

        if CallToolRequest in handlers:
            called: Any = getattr(server, _MARK, handlers[CallToolRequest])
            setattr(server, _MARK, called)
            handlers[CallToolRequest] = home.wrap(called, conversation)
        return
    try:
        entry = server.get_request_handler("tools/call")
    except AttributeError:
        raise InvalidOption(
            "mcp_servers",
            "A server of type sdk is what claude_agent_sdk.create_sdk_mcp_server returns.",
        ) from None
    if entry is not None:
        handler: Any = getattr(server, _MARK, entry.handler)
        setattr(server, _MARK, handler)
        server.add_request_handler(
            "tools/call", entry.params_type, home.wrap(handler, conversation)
        )
