"""Tools of the caller's own, which the model calls as it calls Claude Code's."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claude_agent_sdk import McpSdkServerConfig

#: The name of the server that offers them: the model sees ``mcp__client__NAME``.
SERVER = "client"
_PREFIX = f"mcp__{SERVER}__"

#: What runs when the model calls a tool: takes its input, returns text or MCP content blocks. An
#: exception is told to the model as the tool's error.
Handler = Callable[[dict[str, Any]], Awaitable[str | list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: ``input_schema`` is JSON Schema of an object.

    Without a ``handler`` it is the client's: a turn that calls it ends with reason ``tool_calls``,
    and goes on when the next turn's history ends with the message that calls it and its prompt is
    the ``tool_result`` blocks, in any order.

    ``parallel`` lets the model's calls run at once; else they run one after another, and of the
    client's only the first of a message is made. With ``asks`` a person is asked before it runs.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    handler: Handler | None = field(default=None, compare=False)
    parallel: bool = True
    asks: bool = False

    def definition(self) -> list[Any]:
        """What the model is told of it, as plain data."""
        schema = dict(self.input_schema)
        return [self.name, self.description, schema, self.parallel, self.asks]


def client_tool(name: str) -> str:
    """The name by which the model knows one of the caller's tools; histories have it too."""
    return _PREFIX + name


def plain_name(wire: str) -> str | None:
    """The tool's own name for the one that the model knows; None where it is no tool of the
    caller's.
    """
    return wire.removeprefix(_PREFIX) if wire.startswith(_PREFIX) else None


class ClientCalls:
    """Tells which tool calls in the model's messages are the client's, and which of these are
    made: all of a message, or only the first where the tool does not allow several at once.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._parallel = {client_tool(t.name): t.parallel for t in tools if t.handler is None}
        self._made: dict[str, str] = {}

    def begin(self) -> None:
        """Another message of the model's begins."""
        self._made.clear()

    def is_client(self, name: str) -> bool:
        """Whether the model knows a tool of the client's by this name."""
        return name in self._parallel

    def makes(self, call: str, name: str) -> bool:
        """Whether this call of a client's tool is made. The calls of a message are asked about in
        their order, as often as one likes.
        """
        alone = any(not self._parallel[other] for other in (name, *self._made.values()))
        if call not in self._made and (alone and self._made):
            return False
        self._made[call] = name
        return True


class Toolbox:
    """The tools that a process offers. What it offers is settled when the process is bound; who
    answers a call may change from one conversation to the next.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        #: No answer leaves while it is closed.
        self.gate = asyncio.Event()
        self.gate.set()
        self._tools: dict[str, Tool] = {}
        self.fill(tools)

    def fill(self, tools: Iterable[Tool]) -> None:
        """Have calls from now on answered by these tools."""
        self._tools = {tool.name: tool for tool in tools}

    def client_calls(self) -> ClientCalls:
        """What tells the client's calls in the messages of a turn."""
        return ClientCalls(self._tools.values())

    def is_client(self, name: str) -> bool:
        """Whether the tool of this (its own) name has no handler here."""
        return name in self._tools and self._tools[name].handler is None

    def server(self) -> "McpSdkServerConfig":
        """The in-process MCP server that offers them to the CLI."""
        from claude_agent_sdk import SdkMcpTool, ToolAnnotations, create_sdk_mcp_server

        return create_sdk_mcp_server(
            SERVER,
            tools=[
                SdkMcpTool(
                    tool.name,
                    tool.description,
                    # Without properties the SDK would take it for a list of parameters.
                    {"type": "object", "properties": {}, **tool.input_schema},
                    partial(self._call, tool.name),
                    # The CLI lets calls run at once only where a tool says that it changes nothing.
                    ToolAnnotations(readOnlyHint=True) if tool.parallel else None,
                )
                for tool in self._tools.values()
            ],
        )

    async def _call(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        handler = self._tools[name].handler
        assert handler is not None
        try:
            answer = await handler(given)
        finally:
            await self.gate.wait()
        return {
            "content": [{"type": "text", "text": answer}] if isinstance(answer, str) else answer
        }
