"""A body of POST /v1/chat/completions becomes a request of the core."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jupyter_ccapi.claude import Message

from .errors import APIError, invalid
from .validation import check

# Claude Code has no way to set these; they are accepted because clients send them by habit, and
# named in the response's x-ccapi-ignored header. Each stands with the values that change nothing
# and need no mention.
_IGNORED: dict[str, tuple[Any, ...]] = {
    "temperature": (),
    "top_p": (),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "seed": (),
    "stop": ([],),
    "max_tokens": (),
    "max_completion_tokens": (),
    "logit_bias": ({},),
}
# The efforts that Claude Code has; OpenAI's two lowest become its lowest.
_EFFORTS = {"none": "low", "minimal": "low"}
_PARTS = {
    "image_url": "Images are not supported here.",
    "input_audio": "Audio is not supported: Claude takes text.",
    "file": "Files are not supported here: put their text into the message.",
}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the client asks for.

    ``prompt`` is the last user turn; ``history`` are the turns before it, beginning with a
    user's; ``ignored`` names the parameters that have no effect.
    """

    model: str | None
    system_prompt: str | None
    history: tuple[Message, ...]
    prompt: str
    stream: bool
    include_usage: bool
    effort: str | None
    ignored: tuple[str, ...]


def parse_chat(body: Any) -> ChatRequest:
    """Read a chat completions request. Raises ``APIError`` 400 that names the field."""
    fields = check(body, "chat_completions")
    _refuse_what_cannot_be_honoured(fields)
    messages: list[dict[str, Any]] = fields["messages"]
    system = [
        text
        for i, m in enumerate(messages)
        if m["role"] in ("system", "developer")
        if (text := _text(m, i))
    ]
    turns = _turns(messages)
    if not turns or turns[-1].role != "user":
        raise invalid(
            "messages",
            "The last message must be a user's, with text in it: that is what Claude answers.",
        )
    if turns[0].role != "user":
        raise invalid("messages", "The first message after the system's must be a user's.")
    prompt = turns[-1].content
    assert isinstance(prompt, str)
    options = fields.get("stream_options") or {}
    effort = fields.get("reasoning_effort")
    return ChatRequest(
        model=fields.get("model"),
        system_prompt="\n\n".join(system) or None,
        history=tuple(turns[:-1]),
        prompt=prompt,
        stream=bool(fields.get("stream")),
        include_usage=bool(options.get("include_usage")),
        effort=_EFFORTS.get(effort, effort) if effort else None,
        ignored=tuple(
            name
            for name, harmless in _IGNORED.items()
            if (value := fields.get(name)) is not None and value not in harmless
        ),
    )


def _refuse_what_cannot_be_honoured(fields: dict[str, Any]) -> None:
    """A client that asks for these would take the answer for something that it is not."""
    for name, wanted, why in (
        ("n", (fields.get("n") or 1) > 1, "Only n=1 is supported: send the request several times."),
        ("logprobs", fields.get("logprobs"), "Claude reports no log probabilities."),
        ("top_logprobs", fields.get("top_logprobs"), "Claude reports no log probabilities."),
        ("tools", fields.get("tools"), "Client tools are not supported here."),
        ("functions", fields.get("functions"), "Client functions are not supported here."),
        (
            "response_format",
            (fields.get("response_format") or {}).get("type", "text") != "text",
            "Only response_format {'type': 'text'} is supported here.",
        ),
        (
            "modalities",
            "audio" in (fields.get("modalities") or []),
            "Audio is not supported: Claude answers in text.",
        ),
    ):
        if wanted:
            raise invalid(name, why, code="unsupported_parameter")


def _turns(messages: list[dict[str, Any]]) -> list[Message]:
    """The user's and assistant's messages; neighbours of one role are one turn, as the Messages
    API has it.
    """
    return [
        Message(role, "\n\n".join(text for _, text in group))
        for role, group in groupby(_spoken(messages), key=lambda spoken: spoken[0])
    ]


def _spoken(messages: list[dict[str, Any]]) -> Iterator[tuple[Any, str]]:
    for index, message in enumerate(messages):
        role = message["role"]
        if (
            role in ("tool", "function")
            or message.get("tool_calls")
            or message.get("function_call")
        ):
            raise _unsupported(
                f"messages[{index}]", "Tool calls and their results are not supported here."
            )
        if role in ("user", "assistant"):
            text = _text(message, index)
            if text:
                yield role, text
            elif role == "user":
                raise invalid(
                    f"messages[{index}].content", f"messages[{index}].content must not be empty."
                )


def _text(message: dict[str, Any], index: int) -> str:
    """The text of a message, whichever of the three shapes of content it has; only white space
    counts as none.
    """
    content = message.get("content")
    if content is None:
        content = ""
    if isinstance(content, list):
        pieces = []
        for number, part in enumerate(content):
            if why := _PARTS.get(part["type"]):
                raise _unsupported(f"messages[{index}].content[{number}]", why)
            pieces.append(part.get("text") or part.get("refusal") or "")
        content = "".join(pieces)
    return content if content.strip() else ""


def _unsupported(param: str, why: str) -> APIError:
    return invalid(param, why, code="unsupported_value")
