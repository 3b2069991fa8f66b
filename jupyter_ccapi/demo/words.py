"""The words of the offline model: what a newcomer reads."""

import json
from collections.abc import Sequence
from typing import Any

from jupyter_ccapi.demo import reading, schema

ECHO = 200
"""The most characters that are repeated of what the user wrote."""

FIRST = 40
"""The most characters that are repeated of the first turn of a conversation."""

QUOTE = 2000
"""The most characters that are quoted of a tool result."""

SHORT = 120
"""A longer directive is not suggested."""

SLOWLY = "`[[think Let me see.]] [[words 50]] [[delay 0.1]]` has me think, then talk slowly."

REAL = (
    "Get the real Claude: run `claude` in a terminal and log in, or set `ANTHROPIC_API_KEY`, "
    "and start without the demo."
)

NOTED = "Noted. The offline demo model has nothing to add."
"""What it says when the CLI speaks and the user does not."""


def usual(body: Any) -> str:
    """Return the answer to a text without directives: what this is, what it saw, what to try."""
    turns = [text for _, text in reading.user_turns(body)]
    said = turns[-1] if turns else ""
    parts = [
        "This is the **offline demo model**, not Claude: a small program on this machine "
        "(127.0.0.1) that has no intelligence and sends nothing anywhere.",
        f"You wrote:\n\n{quote(said, ECHO)}" if said else "You wrote no text.",
    ]
    if seen := [*_images(body), *_earlier(turns)]:
        parts.append(" ".join(seen))
    tries = "\n".join(f"- {line}" for line in (suggestion(body), SLOWLY, REAL))
    parts.append(f"Things to try:\n\n{tries}")
    return "\n\n".join(parts)


def _images(body: Any) -> list[str]:
    count = reading.images(body)
    return [f"I was sent {count} image{'' if count == 1 else 's'}."] if count else []


def _earlier(turns: Sequence[str]) -> list[str]:
    if len(turns) < 2:
        return []
    first = shortened(" ".join(turns[0].split()), FIRST)
    words = f"; your first words were “{first}”." if first else "."
    return [f"This is turn {len(turns)} of our conversation{words}"]


def suggestion(body: Any) -> str:
    """Return a directive that shows a tool at work, or what to try where there is none."""
    calls = [
        f"`[[tool {name} {json.dumps(schema.instance(tool.get('input_schema')))}]]`"
        for tool in reading.tools(body)
        if (name := str(tool.get("name", ""))).startswith("mcp__")
    ]
    shortest = min(calls, key=len, default="")
    if 0 < len(shortest) < SHORT:
        return f"{shortest} has me call your tool."
    if "Write" in reading.tool_names(body):
        return "`[[write hello.txt Hello!]]` has Claude Code write a file, if you allow it."
    return "Write again: I count our turns, and the images that you send."


def quoted(results: Sequence[reading.ToolResult]) -> str:
    """Return the answer to tool results: each of them quoted."""
    parts = [
        f"`{result.name}` {'failed' if result.error else 'answered'}:\n\n"
        + quote(result.text or "(nothing)", QUOTE)
        for result in results
    ]
    return "\n\n".join(parts)


def misunderstood(problem: str) -> str:
    """Return the answer to a directive that cannot be followed."""
    return f"The offline demo model cannot follow this directive. {problem}"


def summary(body: Any) -> str:
    """Return what the model says when the CLI has it sum up the conversation."""
    # The user's words stay out: a directive among them would be followed again.
    turns = len(reading.user_turns(body)) - 1
    return (
        "<analysis>The offline demo model understands nothing.</analysis>\n"
        f"<summary>An offline demo conversation of {turns} turns.</summary>"
    )


def quote(text: str, most: int) -> str:
    """Return a text as a Markdown quotation, cut to a number of characters."""
    return "\n".join(f"> {line}".rstrip() for line in shortened(text, most).splitlines())


def shortened(text: str, most: int) -> str:
    """Return a text cut to a number of characters, with a mark where it was cut."""
    return text if len(text) <= most else text[:most].rstrip() + "…"
