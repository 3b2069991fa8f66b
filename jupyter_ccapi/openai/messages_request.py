"""A body of POST /v1/messages becomes a request: Anthropic's own API, for its clients."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jupyter_ccapi.claude import Message, client_tool

from .errors import APIError, invalid
from .fields import (
    agent_wish,
    call_id,
    forced,
    function_tools,
    ignored,
    image,
    in_turns,
    object_schema,
    tool_result,
    unsupported,
)
from .request import Choice, FunctionTool, Request
from .validation import check

# Parameters without effect, each with the values that change nothing. How much the model thinks is
# Claude Code's to say; ``output_config.effort`` is what it takes.
_IGNORED: dict[str, tuple[Any, ...]] = {
    "temperature": (),
    "top_p": (),
    "top_k": (),
    "thinking": ({"type": "adaptive"},),
    "service_tier": ("auto", "standard_only"),
    "container": (),
}
_BLOCKS = {
    "document": "Documents are not supported here: put their text into the message.",
    "search_result": "Search results are not supported here: put their text into the message.",
}


def parse_messages(body: Any) -> Request:
    """Read a request of the Messages API. Raises ``APIError`` 400 that names the field."""
    request = parse_count_tokens(body)
    if request.max_tokens is None:
        raise _missing("max_tokens")
    return request


def parse_count_tokens(body: Any) -> Request:
    """Read a request to count what a request would cost: the same without ``max_tokens``. Raises
    ``APIError`` 400 that names the field.
    """
    fields = check(body, "messages")
    if fields.get("mcp_servers"):
        raise unsupported("mcp_servers", "MCP servers are not supported here.")
    given: list[dict[str, Any]] = fields["messages"]
    messages = in_turns(_messages(given))
    if not messages or messages[-1].role != "user":
        raise invalid("messages", "The last message must be a user's: that is what Claude answers.")
    system = [_text(fields.get("system") or "", "system")]
    system += [
        _text(message["content"], f"messages[{index}].content")
        for index, message in enumerate(given)
        if message["role"] == "system"
    ]
    tools = _tools(fields.get("tools") or [])
    choice = fields.get("tool_choice") or {}
    config = fields.get("output_config") or {}
    schema = (config.get("format") or {}).get("schema")
    if schema is not None:
        schema = object_schema(schema, "output_config.format.schema")
    # JSON is not cut.
    table = _IGNORED if schema is None else {**_IGNORED, "stop_sequences": ([],)}
    return Request(
        model=fields.get("model"),
        messages=tuple(messages),
        system_prompt="\n\n".join(text for text in system if text) or None,
        stream=bool(fields.get("stream")),
        effort=config.get("effort"),
        max_tokens=fields.get("max_tokens"),
        stop=tuple(fields.get("stop_sequences") or ()),
        tools=tools,
        choice=_choice(choice, tools),
        parallel=not choice.get("disable_parallel_tool_use"),
        schema=schema,
        agent=agent_wish(fields),
        conversation=fields.get("conversation_id"),
        store=fields.get("store") is not False,
        ignored=ignored(fields, table),
    )


def _messages(given: Sequence[dict[str, Any]]) -> Iterator[Message]:
    """The user's and assistant's messages."""
    for index, message in enumerate(given):
        path = f"messages[{index}].content"
        content = message["content"]
        if message["role"] == "user":
            blocks = _content(content, path)
            if not blocks:
                raise invalid(path, f"{path} must not be empty.")
            yield Message("user", blocks)
        elif message["role"] == "assistant" and (blocks := _content(content, path, ours=True)):
            yield Message("assistant", blocks)


def _content(
    content: str | list[dict[str, Any]], path: str, *, ours: bool = False
) -> str | list[dict[str, Any]]:
    """What the model gets of a message; ``ours`` is the assistant's."""
    if isinstance(content, str):
        return content if content.strip() else ""
    blocks = [
        made
        for number, block in enumerate(content)
        if (made := _block(block, f"{path}[{number}]", ours=ours)) is not None
    ]
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    # The model's API wants the results of tools before what else the user says.
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _block(block: dict[str, Any], path: str, *, ours: bool) -> dict[str, Any] | None:
    """A block without marks that are of no use here; None for one that is left out."""
    match block["type"]:
        case "text":
            return {"type": "text", "text": block["text"]} if block["text"].strip() else None
        case "thinking" | "redacted_thinking" if ours:
            # It bears no signature of the model's when it comes from here.
            return None
        case "tool_use" if ours:
            name = client_tool(block["name"])
            id = call_id(block["id"])
            return {"type": "tool_use", "id": id, "name": name, "input": block["input"]}
        case "tool_result" if not ours:
            return _result(block, path)
        case "image" if not ours:
            return _image(block["source"], f"{path}.source")
        case kind:
            raise _misplaced(kind, path)


def _result(block: dict[str, Any], path: str) -> dict[str, Any]:
    """What a tool answered."""
    content = block.get("content") or ""
    if not isinstance(content, str):
        blocks = []
        for number, part in enumerate(content):
            where = f"{path}.content[{number}]"
            if part["type"] not in ("text", "image"):
                raise _misplaced(part["type"], where)
            if (made := _block(part, where, ours=False)) is not None:
                blocks.append(made)
        content = blocks
    result = tool_result(block["tool_use_id"], content, f"{path}.tool_use_id")
    return {**result, "is_error": True} if block.get("is_error") else result


def _image(source: dict[str, Any], path: str) -> dict[str, Any]:
    """An image that is still to be read, also where it came as base64: that is checked too."""
    match source["type"]:
        case "base64":
            url = f"data:{source['media_type']};base64,{source['data']}"
            return image(url, f"{path}.data")
        case "url":
            return image(source["url"], f"{path}.url")
        case kind:
            raise unsupported(
                f"{path}.type", f"Images of type {kind[:80]!r} are not supported: send base64."
            )


def _text(content: str | list[dict[str, Any]], path: str) -> str:
    """The text of a system prompt."""
    if isinstance(content, str):
        return content.strip()
    texts = []
    for number, block in enumerate(content):
        if block["type"] != "text":
            raise _misplaced(block["type"], f"{path}[{number}]")
        texts.append(block["text"].strip())
    return "\n\n".join(text for text in texts if text)


def _tools(given: Sequence[Mapping[str, Any]]) -> tuple[FunctionTool, ...]:
    for index, tool in enumerate(given):
        if tool.get("type") not in (None, "custom"):
            raise unsupported(
                f"tools[{index}].type",
                f"Only tools of the client's own are supported, not {tool['type'][:80]!r}. Claude "
                "Code's own tools are there in agent mode.",
            )
    return function_tools(
        (f"tools[{index}]", tool, "input_schema") for index, tool in enumerate(given)
    )


def _choice(asked: Mapping[str, Any], tools: Sequence[FunctionTool]) -> Choice:
    """What the client says about calling tools."""
    names = tuple(tool.name for tool in tools)
    match asked.get("type"):
        case "none":
            return Choice("none")
        case "any":
            return forced(names, names, "tool_choice.type")
        case "tool":
            return forced((asked["name"],), names, "tool_choice.name")
        case _:
            return Choice()


def _misplaced(kind: str, path: str) -> APIError:
    why = _BLOCKS.get(kind, f"Blocks of type {kind[:80]!r} are not supported here.")
    return unsupported(f"{path}.type", why)


def _missing(param: str) -> APIError:
    return invalid(
        param, f"Missing required parameter: {param!r}.", code="missing_required_parameter"
    )
