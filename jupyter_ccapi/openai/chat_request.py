"""A body of POST /v1/chat/completions becomes a request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_ccapi.claude import Message

from .errors import invalid
from .fields import (
    IGNORED,
    JSON_OBJECT,
    agent_wish,
    effort,
    forced,
    function_tools,
    ignored,
    image,
    in_turns,
    named_schema,
    tool_result,
    tool_use,
    unsupported,
)
from .request import Choice, FunctionTool, Request
from .validation import check

_PARTS = {
    "input_audio": "Audio is not supported: Claude takes text and images.",
    "file": "Files are not supported here: put their text into the message.",
}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request, and how its answer is to be written."""

    request: Request
    include_usage: bool


def parse_chat(body: Any) -> ChatRequest:
    """Read a chat completions request. Raises ``APIError`` 400 that names the field."""
    fields = check(body, "chat_completions")
    _refuse_what_cannot_be_honoured(fields)
    given: list[dict[str, Any]] = fields["messages"]
    messages = in_turns(_messages(given))
    if not messages or messages[-1].role != "user":
        raise invalid(
            "messages",
            "The last message must be a user's or a tool's: that is what Claude answers.",
        )
    system = [
        text
        for i, m in enumerate(given)
        if m["role"] in ("system", "developer")
        if (text := _text(m, i).strip())
    ]
    tools = _tools(fields.get("tools") or [])
    schema = _schema(fields.get("response_format") or {})
    stop = fields.get("stop") or ()
    request = Request(
        model=fields.get("model"),
        messages=tuple(messages),
        system_prompt="\n\n".join(system) or None,
        stream=bool(fields.get("stream")),
        effort=effort(fields.get("reasoning_effort")),
        max_tokens=fields.get("max_completion_tokens") or fields.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        tools=tools,
        choice=_choice(fields.get("tool_choice"), tools),
        parallel=fields.get("parallel_tool_calls") is not False,
        schema=schema,
        agent=agent_wish(fields),
        conversation=fields.get("conversation_id"),
        store=fields.get("store") is not False,
        # JSON is not cut.
        ignored=ignored(fields, IGNORED if schema is None else {**IGNORED, "stop": ([], "")}),
        metadata=fields.get("metadata") or {},
    )
    options = fields.get("stream_options") or {}
    return ChatRequest(request, include_usage=bool(options.get("include_usage")))


def _refuse_what_cannot_be_honoured(fields: dict[str, Any]) -> None:
    """A client that asks for these would take the answer for something that it is not."""
    for name, wanted, why in (
        ("n", (fields.get("n") or 1) > 1, "Only n=1 is supported: send the request several times."),
        ("logprobs", fields.get("logprobs"), "Claude reports no log probabilities."),
        ("top_logprobs", fields.get("top_logprobs"), "Claude reports no log probabilities."),
        ("functions", fields.get("functions"), "Functions are not supported: send them as tools."),
        (
            "function_call",
            fields.get("function_call") not in (None, "none", "auto"),
            "Functions are not supported: send them as tools, and tool_choice.",
        ),
        (
            "web_search_options",
            fields.get("web_search_options") is not None,
            "There is no web search in chat mode; in agent mode Claude Code has a tool for it.",
        ),
        (
            "modalities",
            "audio" in (fields.get("modalities") or []),
            "Audio is not supported: Claude answers in text.",
        ),
    ):
        if wanted:
            raise invalid(name, why, code="unsupported_parameter")


def _messages(messages: list[dict[str, Any]]) -> Iterator[Message]:
    """The user's, assistant's and tools' messages, each as the model's API has it."""
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        match message["role"]:
            case "user":
                content = _content(message, index)
                if not content:
                    raise invalid(f"{path}.content", f"{path}.content must not be empty.")
                yield Message("user", content)
            case "assistant":
                if message.get("function_call"):
                    raise unsupported(f"{path}.function_call", "Send calls as tool_calls.")
                if blocks := _assistant(message, index):
                    yield Message("assistant", blocks)
            case "tool":
                result = _content(message, index)
                yield Message(
                    "user", [tool_result(message["tool_call_id"], result, f"{path}.tool_call_id")]
                )
            case "function":
                raise unsupported(
                    f"{path}.role", "Functions are not supported: send results of tools."
                )


def _assistant(message: dict[str, Any], index: int) -> str | list[dict[str, Any]]:
    """An assistant's text and calls."""
    text = _text(message, index)
    calls = [
        tool_use(
            call["id"],
            call["function"]["name"],
            call["function"].get("arguments") or "",
            f"messages[{index}].tool_calls[{number}].function",
            "arguments",
        )
        for number, call in enumerate(message.get("tool_calls") or [])
    ]
    if not calls:
        return text
    return [{"type": "text", "text": text}, *calls] if text else calls


def _content(message: dict[str, Any], index: int) -> str | list[dict[str, Any]]:
    """The content of a message: text, or blocks where there are images in it; only white space
    counts as none.
    """
    content = message.get("content")
    if not isinstance(content, list) or all(part["type"] != "image_url" for part in content):
        return _text(message, index)
    blocks: list[dict[str, Any]] = []
    for number, part in enumerate(content):
        path = f"messages[{index}].content[{number}]"
        if part["type"] == "image_url":
            blocks.append(image(part["image_url"]["url"], f"{path}.image_url.url"))
        elif text := _part(part, path):
            blocks.append({"type": "text", "text": text})
    return blocks


def _text(message: dict[str, Any], index: int) -> str:
    """The text of a message, whichever of the three shapes of content it has."""
    content = message.get("content")
    if content is None:
        content = ""
    if isinstance(content, list):
        content = "".join(
            _part(part, f"messages[{index}].content[{number}]")
            for number, part in enumerate(content)
        )
    return content if content.strip() else ""


def _part(part: dict[str, Any], path: str) -> str:
    if part["type"] == "image_url":
        raise unsupported(path, "Images are supported in messages of users and tools only.")
    if why := _PARTS.get(part["type"]):
        raise unsupported(path, why)
    return part.get("text") or part.get("refusal") or ""


def _tools(given: Sequence[Mapping[str, Any]]) -> tuple[FunctionTool, ...]:
    for index, tool in enumerate(given):
        if tool["type"] != "function":
            raise unsupported(
                f"tools[{index}].type", "Only tools of type 'function' are supported."
            )
    return function_tools(
        (f"tools[{index}].function", tool["function"], "parameters")
        for index, tool in enumerate(given)
    )


def _choice(asked: Any, tools: Sequence[FunctionTool]) -> Choice:
    """What the client says about calling tools."""
    names = tuple(tool.name for tool in tools)
    if asked in (None, "auto"):
        return Choice()
    if asked == "none":
        return Choice("none")
    if asked == "required":
        return forced(names, names, "tool_choice")
    kind = asked["type"]
    if kind == "function" and "function" in asked:
        return forced((asked["function"]["name"],), names, "tool_choice.function.name")
    if kind == "allowed_tools" and "allowed_tools" in asked:
        allowed = asked["allowed_tools"]
        wanted = tuple((one.get("function") or one).get("name") for one in allowed["tools"])
        if allowed["mode"] == "required":
            return forced(wanted, names, "tool_choice.allowed_tools.tools")
        forced(wanted, names, "tool_choice.allowed_tools.tools")
        return Choice("auto", wanted)
    raise unsupported("tool_choice", f"A tool_choice of type {kind!r} is not supported so.")


def _schema(format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the answer must fulfil."""
    match format.get("type"):
        case "json_object":
            return JSON_OBJECT
        case "json_schema":
            asked = format["json_schema"]
            return named_schema(
                asked["schema"], asked.get("description"), "response_format.json_schema.schema"
            )
        case _:
            return None
