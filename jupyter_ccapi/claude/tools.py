"""Tools of the caller's own, which the model calls as it calls Claude Code's."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claude_agent_sdk import McpSdkServerConfig

#: The name of the server that offers them: the model sees ``mcp__client__NAME``.
SERVER = "client"

#: What runs when the model calls a tool: takes its input, returns text or MCP content blocks. An
#: exception is told to the model as the tool's error.
Handler = Callable[[dict[str, Any]], Awaitable[str | list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: ``input_schema`` is JSON Schema of an object.

    ``parallel`` lets the model's calls run at once; else they run one after another.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    handler: Handler = field(compare=False)
    parallel: bool = True

    def definition(self) -> list[Any]:
        """What the model is told of it, as plain data."""
        return [self.name, self.description, dict(self.input_schema), self.parallel]


class Toolbox:
    """The tools that a process offers. What it offers is settled when the process is bound; who
    answers a call may change from one conversation to the next.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self.fill(tools)

    def fill(self, tools: Iterable[Tool]) -> None:
        """Have calls from now on answered by these tools."""
        self._tools = {tool.name: tool for tool in tools}

    def server(self) -> "McpSdkServerConfig":
        """The in-process MCP server that offers them to the CLI."""
        from claude_agent_sdk import SdkMcpTool, ToolAnnotations, create_sdk_mcp_server

        return create_sdk_mcp_server(
            SERVER,
            tools=[
                SdkMcpTool(
                    tool.name,
                    tool.description,
                    dict(tool.input_schema),
                    partial(self._call, tool.name),
                    # The CLI lets calls run at once only where a tool says that it changes nothing.
                    ToolAnnotations(readOnlyHint=True) if tool.parallel else None,
                )
                for tool in self._tools.values()
            ],
        )

    async def _call(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        answer = await self._tools[name].handler(given)
        return {
            "content": [{"type": "text", "text": answer}] if isinstance(answer, str) else answer
        }
