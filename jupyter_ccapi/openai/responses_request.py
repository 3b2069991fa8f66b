"""A body of POST /v1/responses becomes a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import invalid
from .fields import (
    IGNORED,
    JSON_OBJECT,
    agent_wish,
    effort,
    forced,
    function_tools,
    ignored,
    named_schema,
    unsupported,
)
from .request import Choice, FunctionTool, Request
from .responses_input import read_input
from .validation import check

_IGNORED = {**IGNORED, "truncation": ("disabled",)}


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A request, and what its response says of it.

    ``echo`` are the response object's fields that repeat what was asked. ``items`` are the input's
    items as they are kept, those that were referred to among them.
    """

    request: Request
    echo: Mapping[str, Any]
    items: tuple[dict[str, Any], ...]

    @property
    def carried(self) -> str | None:
        """What the input's own system and developer messages say: it stays with the conversation,
        while ``instructions`` are for this request alone.
        """
        return self.request.system_prompt


def parse_responses(
    body: Any, stored: Mapping[str, Mapping[str, Any]] | None = None
) -> ResponsesRequest:
    """Read a Responses request. ``stored`` are the items that ``references(body)`` names, as far as
    they exist. Raises ``APIError`` 400 that names the field, or 404 for an unknown item.
    """
    fields = check(body, "responses")
    _refuse_what_cannot_be_honoured(fields)
    only_new = bool(fields.get("previous_response_id") or fields.get("conversation"))
    said = read_input(fields["input"], stored or {}, only_new=only_new)
    if not said.messages or said.messages[-1].role != "user":
        raise invalid(
            "input",
            "The last item must be a user's message or the output of a function: that is what "
            "Claude answers.",
        )
    instructions = fields.get("instructions")
    own = instructions if (instructions or "").strip() else None
    reasoning = fields.get("reasoning") or {}
    text = fields.get("text") or {}
    tools = _tools(fields.get("tools") or [])
    request = Request(
        model=fields.get("model"),
        messages=said.messages,
        system_prompt=said.system,
        instructions=own,
        only_new=only_new,
        stream=bool(fields.get("stream")),
        effort=effort(reasoning.get("effort")),
        max_tokens=fields.get("max_output_tokens"),
        tools=tools,
        choice=_choice(fields.get("tool_choice"), tools),
        parallel=fields.get("parallel_tool_calls") is not False,
        schema=_schema(text.get("format") or {}),
        agent=agent_wish(fields),
        conversation=_conversation(fields),
        previous_response=fields.get("previous_response_id"),
        store=fields.get("store") is not False,
        begins_conversation=False,
        field="input",
        ignored=ignored(fields, _IGNORED) + _ignored_below(text),
        metadata=fields.get("metadata") or {},
    )
    return ResponsesRequest(request, _echo(fields), said.items)


def _refuse_what_cannot_be_honoured(fields: Mapping[str, Any]) -> None:
    """A client that asks for these would take the response for something that it is not."""
    logprobs = [name for name in fields.get("include") or [] if "logprobs" in name]
    for name, wanted, why in (
        (
            "background",
            fields.get("background"),
            "Responses in the background are not supported: wait for the answer, or stream it.",
        ),
        ("prompt", fields.get("prompt"), "There are no prompt templates here: send the text."),
        (
            "max_tool_calls",
            fields.get("max_tool_calls") is not None,
            "There is no limit of tool calls to set: the client makes them itself.",
        ),
        ("top_logprobs", fields.get("top_logprobs"), "Claude reports no log probabilities."),
        ("include", logprobs, "Claude reports no log probabilities."),
    ):
        if wanted:
            raise invalid(name, why, code="unsupported_parameter")


def _conversation(fields: Mapping[str, Any]) -> str | None:
    """The conversation that is gone on with, by OpenAI's name of the field or by ours."""
    asked = fields.get("conversation")
    theirs = asked["id"] if isinstance(asked, dict) else asked
    ours = fields.get("conversation_id")
    if theirs and ours and theirs != ours:
        raise invalid(
            "conversation_id", "conversation and conversation_id name two conversations: send one."
        )
    found: str | None = theirs or ours
    if found and fields.get("previous_response_id"):
        raise invalid(
            "previous_response_id",
            "A response goes on with a conversation or with a previous response: send only one of "
            "conversation and previous_response_id.",
            code="mutually_exclusive_parameters",
        )
    return found


def _tools(given: Sequence[Mapping[str, Any]]) -> tuple[FunctionTool, ...]:
    for index, tool in enumerate(given):
        if tool["type"] != "function":
            raise unsupported(
                f"tools[{index}].type",
                f"Only tools of type 'function' are supported, not {tool['type'][:80]!r}. Claude "
                "Code's own tools are there in agent mode.",
            )
    return function_tools(
        (f"tools[{index}]", tool, "parameters") for index, tool in enumerate(given)
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
    match asked["type"]:
        case "function":
            return forced((asked["name"],), names, "tool_choice.name")
        case "allowed_tools":
            wanted = tuple(one.get("name") for one in asked["tools"])
            choice = forced(wanted, names, "tool_choice.tools")
            return choice if asked["mode"] == "required" else Choice("auto", choice.names)
        case kind:
            raise unsupported(
                "tool_choice.type", f"A tool_choice of type {kind[:80]!r} is not supported."
            )


def _schema(format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the answer must fulfil."""
    match format.get("type"):
        case "json_object":
            return JSON_OBJECT
        case "json_schema":
            return named_schema(format["schema"], format.get("description"), "text.format.schema")
        case _:
            return None


def _ignored_below(text: Mapping[str, Any]) -> tuple[str, ...]:
    return ("text.verbosity",) if text.get("verbosity") in ("low", "high") else ()


def _echo(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a response says of its request, with OpenAI's defaults where that says nothing."""
    text = fields.get("text") or {}
    reasoning = fields.get("reasoning") or {}
    summary = reasoning.get("summary") or reasoning.get("generate_summary")
    defaults: dict[str, Any] = {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "safety_identifier": None,
        "store": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }
    return {
        **{
            name: default if fields.get(name) is None else fields[name]
            for name, default in defaults.items()
        },
        "reasoning": {"effort": reasoning.get("effort"), "summary": summary},
        "text": {
            "format": text.get("format") or {"type": "text"},
            "verbosity": text.get("verbosity") or "medium",
        },
    }
