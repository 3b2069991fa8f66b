"""How a request's tools, tool choice and format become options of the core."""

from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_ccapi.claude import Message, Tool, plain_name

from .forced import Forced
from .request import FunctionTool, Request


def tools_for(request: Request, messages: Sequence[Message]) -> tuple[Tool, ...]:
    """The tools that the model has in a conversation that holds these messages.

    The model's API demands that the tools of earlier calls are there. Those that may not be called
    now answer so, which the client does not see.
    """
    used = {
        name
        for message in messages
        for block in message.blocks
        if block.get("type") == "tool_use"
        if (name := plain_name(str(block.get("name")))) is not None
    }
    choice = request.choice
    offered = {tool.name for tool in request.tools}
    free = {
        tool.name
        for tool in request.tools
        if choice.kind == "auto" and (not choice.names or tool.name in choice.names)
    }
    tools = [
        _tool(tool, None if tool.name in free else _refuse, request)
        for tool in request.tools
        if tool.name in free | used
    ]
    for name in sorted(used - offered):
        past = FunctionTool(name, "It cannot be used any more.", {"type": "object"})
        tools.append(_tool(past, _refuse, request))
    return tuple(tools)


def schema_for(request: Request, forced: Forced | None) -> Mapping[str, Any] | None:
    """What the answer must fulfil."""
    return forced.schema if forced is not None else request.schema


def _tool(tool: FunctionTool, handler: Any, request: Request) -> Tool:
    # An object without further ado is what OpenAI takes for no parameters at all.
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return Tool(tool.name, tool.description, parameters, handler, parallel=request.parallel)


async def _refuse(given: dict[str, Any]) -> str:
    raise PermissionError("This tool cannot be used now. Answer without it.")
