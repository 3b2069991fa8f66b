"""What a process cannot change any more: which conversations it can serve goes by that."""

import json
from dataclasses import dataclass
from typing import Any

from .options import Options, allowed_tools

# Options of the SDK that say again what the binding says: with them a process is for one
# conversation alone.
_OWN_PROCESS = {"system_prompt", "output_format", "mcp_servers", "agents", "model", "tools"}
# The CLI counts it over all that a process does.
_OWN_PROCESS |= {"max_budget_usd"}


@dataclass(frozen=True, slots=True)
class Binding:
    """Two processes with the same binding can stand in for each other.

    ``profile`` is what stands on the command line; a spare is started with it. ``bound`` is what
    the first ``initialize`` fixes: system prompt, tools, schema. The model is no part of it: it is
    switched live.
    """

    profile: str
    bound: str


def binding_of(options: Options, *, persist: bool) -> Binding | None:
    """The binding of a conversation; None where its options hold what cannot be compared (a
    callback, a server of its own): then its process is its own.
    """
    if not _OWN_PROCESS.isdisjoint(options.sdk):
        return None
    profile: list[Any] = [options.mode, str(options.cwd), options.effort, persist]
    allowed = allowed_tools(options.tools) if options.mode == "agent" and options.tools else None
    profile += [options.asks, allowed, dict(options.sdk), options.arguments]
    tools = [tool.definition() for tool in options.tools]
    try:
        return Binding(
            json.dumps(profile, sort_keys=True),
            json.dumps([options.system_prompt or "", options.schema, tools], sort_keys=True),
        )
    except (TypeError, ValueError):
        return None
