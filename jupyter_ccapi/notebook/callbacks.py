"""The callbacks in a user's options of claude-agent-sdk: they run where the user is at home."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .home_loop import HomeLoop

# On a server of ours, once its calls are answered at home.
_MARK = "_ccapi_at_home"


def at_home(sdk: Mapping[str, Any], home: HomeLoop) -> dict[str, Any]:
    """These options with `can_use_tool`, the hooks and the tools of in-process MCP servers called
    on the user's own loop.
    """
    options = dict(sdk)
    if callable(options.get("can_use_tool")):
        options["can_use_tool"] = home.wrap(options["can_use_tool"])
    if options.get("hooks"):
        options["hooks"] = {
            event: [
                replace(matcher, hooks=[home.wrap(hook) for hook in matcher.hooks])
                for matcher in matchers
            ]
            for event, matchers in options["hooks"].items()
        }
    servers = options.get("mcp_servers")
    if isinstance(servers, Mapping):
        for server in servers.values():
            if isinstance(server, Mapping) and server.get("type") == "sdk":
                _call_at_home(server["instance"], home)
    return options


def _call_at_home(server: Any, home: HomeLoop) -> None:
    """Have a server of `create_sdk_mcp_server` run its tools at home: the SDK runs the server
    itself on the core's loop.
    """
    entry = server.get_request_handler("tools/call")
    if entry is not None and not hasattr(server, _MARK):
        server.add_request_handler("tools/call", entry.params_type, home.wrap(entry.handler))
        setattr(server, _MARK, True)
