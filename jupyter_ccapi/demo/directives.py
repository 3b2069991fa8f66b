"""Directives: what a user's text may ask of the offline model, in any client, unchanged.

Anywhere in the last text of the user, in any number and order:

| directive | the model |
|---|---|
| `[[say TEXT]]` | says TEXT; several make paragraphs |
| `[[words N]]` | says N words: `word1 word2 …` |
| `[[think TEXT]]` | thinks TEXT before it speaks |
| `[[tool NAME {json}]]` | calls a tool (`{json}` may be left out); several are parallel calls |
| `[[write PATH TEXT]]` | calls Write; a PATH with spaces goes into double quotes |
| `[[then]]` | ends this message: what follows is said after the tool results |
| `[[delay SECONDS]]` | waits after each word |
| `[[hold]]` | pauses after the first word until `POST /release` |
| `[[stop REASON]]` | ends with that stop reason, such as `max_tokens` |
| `[[usage input_tokens=N …]]` | reports these token counts |
| `[[error STATUS retry-after=N type=T MESSAGE]]` | fails, after words if it has some to say |
| `[[drop]]` | has the connection cut in the middle of the message |

TEXT ends at `]]` and may span lines. A message that neither speaks nor calls a tool says the
model's usual answer, so `[[delay 0.1]]` alone slows that down. Double brackets around anything
else are left alone.
"""

import json
import re
import threading
from dataclasses import replace
from typing import Any, get_args

from jupyter_ccapi.demo.replies import ApiError, Reply, StopReason

NAMES = (
    "say",
    "words",
    "think",
    "tool",
    "write",
    "then",
    "delay",
    "hold",
    "stop",
    "usage",
    "error",
    "drop",
)
OPENING = re.compile(rf"\[\[\s*({'|'.join(NAMES)})(?=[\s\]])")
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
MOST_WORDS = 100_000
"""No more than this in one `[[words N]]`, so that a slip does not fill the memory."""


class DirectiveError(ValueError):
    """A directive that cannot be followed; the message quotes it and says how it is written."""


def parse(text: str) -> list[Reply]:
    """Return the messages that a text asks for, one for each `[[then]]` and one more.

    An empty list means that the text has no directives. Raises `DirectiveError`.
    """
    found = False
    replies = [Reply()]
    position = 0
    while opening := OPENING.search(text, position):
        found = True
        name, start = opening.group(1), opening.end()
        if name == "tool":
            call, position = _tool(text, start, opening.start())
            replies[-1] = _with_tool(replies[-1], call)
            continue
        end = text.find("]]", start)
        if end < 0:
            raise DirectiveError(f"`{text[opening.start() :][:80]}` has no closing `]]`.")
        position = end + 2
        argument = text[start:end].strip()
        if name == "then":
            replies.append(Reply())
            continue
        try:
            replies[-1] = _followed(replies[-1], name, argument)
        except ValueError as error:
            raise DirectiveError(f"`{text[opening.start() : position]}`: {error}") from None
    return replies if found else []


def _followed(reply: Reply, name: str, argument: str) -> Reply:
    """Return the reply with one more directive followed; raise `ValueError` with a sentence."""
    match name:
        case "say":
            return replace(reply, text=_joined(reply.text, argument))
        case "words":
            return replace(reply, text=_joined(reply.text, _words(argument)))
        case "think":
            return replace(reply, thinking=_joined(reply.thinking, argument))
        case "write":
            return _with_tool(reply, _write(argument))
        case "delay":
            return replace(reply, word_delay=_seconds(argument))
        case "hold":
            return replace(reply, hold=threading.Event())
        case "stop":
            return replace(reply, stop_reason=_reason(argument))
        case "usage":
            return replace(reply, **_usage(argument))
        case "error":
            return replace(reply, error=_error(argument))
        case _:
            return replace(reply, drop=True)


def _tool(text: str, start: int, opening: int) -> tuple[tuple[str, dict[str, Any]], int]:
    """Return a tool call and the position behind it; its JSON may hold `]]` itself."""
    usage = "write it as `[[tool NAME {json}]]`"
    named = re.compile(r"\s+([\w.:-]+)\s*").match(text, start)
    if not named:
        raise DirectiveError(f"`{text[opening:][:80]}` names no tool: {usage}.")
    arguments: Any = {}
    end = named.end()
    if not text.startswith("]]", end):
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, end)
        except ValueError as error:
            raise DirectiveError(f"`{text[opening:][:80]}`: {error}; {usage}.") from None
    closing = re.compile(r"\s*\]\]").match(text, end)
    if not isinstance(arguments, dict) or not closing:
        raise DirectiveError(f"`{text[opening:][:80]}` is not one JSON object: {usage}.")
    return (named.group(1), arguments), closing.end()


def _with_tool(reply: Reply, call: tuple[str, dict[str, Any]]) -> Reply:
    return replace(reply, tools=(*reply.tools, call))


def _joined(first: str, second: str) -> str:
    return f"{first}\n\n{second}" if first else second


def _words(argument: str) -> str:
    if not argument.isdecimal() or not 0 < int(argument) <= MOST_WORDS:
        raise ValueError(f"write it as `[[words N]]` with N from 1 to {MOST_WORDS}.")
    return " ".join(f"word{number}" for number in range(1, int(argument) + 1))


def _write(argument: str) -> tuple[str, dict[str, Any]]:
    parts = re.fullmatch(r'(?:"([^"]+)"|(\S+))(?:\s(.*))?', argument, re.DOTALL)
    if not parts:
        raise ValueError("write it as `[[write PATH TEXT]]`.")
    path = parts.group(1) or parts.group(2)
    return "Write", {"file_path": path, "content": parts.group(3) or ""}


def _seconds(argument: str) -> float:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise ValueError("write it as `[[delay SECONDS]]`, from 0 to 60.")
    return seconds


def _reason(argument: str) -> Any:
    if argument not in get_args(StopReason):
        raise ValueError(f"the stop reasons are {', '.join(get_args(StopReason))}.")
    return argument


def _usage(argument: str) -> dict[str, Any]:
    pairs = [part.partition("=") for part in argument.split()]
    if not pairs or any(name not in COUNTS or not value.isdecimal() for name, _, value in pairs):
        raise ValueError(f"write it as `[[usage NAME=N …]]` with names from {', '.join(COUNTS)}.")
    return {name: int(value) for name, _, value in pairs}


def _error(argument: str) -> ApiError:
    status, *rest = argument.split() or [""]
    if not status.isdecimal() or not 400 <= int(status) <= 599:
        raise ValueError("write it as `[[error STATUS …]]` with a status from 400 to 599.")
    error = ApiError(int(status))
    while rest and "=" in rest[0]:
        name, _, value = rest[0].partition("=")
        if name == "retry-after":
            error = error._replace(retry_after=_seconds_to_retry(value))
        elif name == "type":
            error = error._replace(type=value)
        else:
            break
        rest = rest[1:]
    return error._replace(message=" ".join(rest))


def _seconds_to_retry(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("retry-after is a number of seconds.") from None
