"""Reading the body of a Messages request: who said what, and what is asked for now.

The Claude Code CLI puts more into a request than its user wrote: `<system-reminder>` texts, a last
entry of role `system` (environment, date), tool results in entries of role `user`. Everything here
takes the parsed body and never fails on an odd one: what is not understood counts as absent.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ASIDE = re.compile(r"<system-reminder>.*?(</system-reminder>|\Z)", re.DOTALL)
"""What the CLI tells the model in passing."""

INTERRUPTED = "[Request interrupted by user"
"""How the mark opens that the CLI leaves where a turn was interrupted."""

NOT_THE_USER = (
    "[structured-output-enforce]",
    "[Image: source:",
    "Output token limit hit",
    "Your response was cut off because",
    "Your response above was",
    "[Your previous response had no visible output",
    "This session is being continued from a previous conversation",
    "<command-",
    "<local-command-",
    "<task-notification>",
)
"""How other texts open that the CLI writes in entries of role `user` (CLI 2.1.330)."""


class ToolResult(NamedTuple):
    """What a tool answered: its `name`, the `text` of its result, whether that is an `error`."""

    name: str
    text: str
    error: bool


def entries(body: Any) -> list[dict[str, Any]]:
    """Return the `messages[]` entries that are objects."""
    messages = body.get("messages") if isinstance(body, Mapping) else None
    return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []


def blocks(content: Any) -> list[dict[str, Any]]:
    """Return content (a string or a list of blocks) as a list of blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def plain_text(content: Any) -> str:
    """Return the text blocks of content, joined by newlines."""
    texts = [b.get("text") for b in blocks(content) if b.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def spoken(content: Any) -> list[str]:
    """Return the texts of the user's turns in the content of an entry of role `user`.

    Usually there is one, or none where the entry brings tool results. There are more where a turn
    was interrupted before it had an answer. A turn of images alone has an empty text.
    """
    turns: list[list[str]] = [[]]
    for block in blocks(content):
        text = block.get("text")
        if block.get("type") in ("image", "document"):
            turns[-1].append("")
        elif block.get("type") == "text" and isinstance(text, str):
            text = ASIDE.sub("", text).strip()
            if text.startswith(INTERRUPTED):
                turns.append([])
            elif text and not text.startswith(NOT_THE_USER):
                turns[-1].append(text)
    return ["\n".join(filter(None, parts)) for parts in turns if parts]


def user_turns(body: Any) -> list[tuple[int, str]]:
    """Return the user's turns as (index in `messages[]`, text), oldest first."""
    return [
        (index, text)
        for index, entry in enumerate(entries(body))
        if entry.get("role") == "user"
        for text in spoken(entry.get("content"))
    ]


def user_text(body: Any) -> str:
    """Return the last text of the user, or an empty text."""
    turns = user_turns(body)
    return turns[-1][1] if turns else ""


def system_text(body: Any) -> str:
    """Return the system prompt as one text."""
    return plain_text(body.get("system")) if isinstance(body, Mapping) else ""


def tools(body: Any) -> list[dict[str, Any]]:
    """Return the tools on offer, as the request defines them."""
    offered = body.get("tools") if isinstance(body, Mapping) else None
    return [t for t in offered if isinstance(t, dict)] if isinstance(offered, list) else []


def tool_names(body: Any) -> list[str]:
    """Return the names of the tools on offer."""
    return [str(tool.get("name", "")) for tool in tools(body)]


def since_user(body: Any) -> list[dict[str, Any]]:
    """Return the entries after the last text of the user."""
    turns = user_turns(body)
    return entries(body)[turns[-1][0] + 1 :] if turns else entries(body)


def current_turn(body: Any) -> list[dict[str, Any]]:
    """Return the last entry in which the user wrote, and all that followed it."""
    turns = user_turns(body)
    return entries(body)[turns[-1][0] :] if turns else entries(body)


def images(body: Any) -> int:
    """Count the images in the current turn, those in tool results included."""
    return sum(_images(entry.get("content")) for entry in current_turn(body))


def _images(content: Any) -> int:
    found = 0
    for block in blocks(content):
        found += block.get("type") == "image"
        if block.get("type") == "tool_result":
            found += _images(block.get("content"))
    return found


def answers_since_user(body: Any) -> int:
    """Count the messages of the model since the last text of the user."""
    roles = [entry.get("role") for entry in since_user(body)]
    return sum(
        role == "assistant" and before != "assistant"
        for before, role in zip(["user", *roles], roles, strict=False)
    )


def tool_results(body: Any) -> list[ToolResult]:
    """Return the tool results that are to be answered now.

    Those are in the last entry, but for entries of role `system` that the CLI may put behind it.
    """
    latest = [entry for entry in since_user(body) if entry.get("role") != "system"]
    if not latest or latest[-1].get("role") != "user":
        return []
    names = {use.get("id"): str(use.get("name", "")) for use in _tool_uses(body)}
    return [
        ToolResult(
            names.get(block.get("tool_use_id"), "tool"),
            plain_text(block.get("content")),
            bool(block.get("is_error")),
        )
        for block in blocks(latest[-1].get("content"))
        if block.get("type") == "tool_result"
    ]


def _tool_uses(body: Any) -> Iterator[dict[str, Any]]:
    for entry in entries(body):
        if entry.get("role") == "assistant":
            for block in blocks(entry.get("content")):
                if block.get("type") == "tool_use":
                    yield block
