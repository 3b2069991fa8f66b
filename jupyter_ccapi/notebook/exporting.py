"""A conversation as a Markdown document or as a notebook: pure functions of its messages.

The same conversation gives the same text, byte for byte.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Any

from jupyter_ccapi.claude import Message, plain_name

Block = Mapping[str, Any]

# Fields of a tool's input that are read best as what they are, and their language.
_LANGUAGES = {"command": "bash", "code": "python"}
_LINE = 80


@dataclass(frozen=True, slots=True)
class Told:
    """A prompt and what followed it: the messages up to the next one, in the API's form.

    `number` is its checkpoint, from 1; `when` it was sent.
    """

    prompt: Message
    messages: tuple[Message, ...] = ()
    number: int | None = None
    when: datetime | None = None


def told(messages: Sequence[Message]) -> list[Told]:
    """Divide a conversation at its prompts, and number them from 1."""
    turns: list[Told] = []
    for message in messages:
        results, prompt = _divided(message)
        if results and turns:
            turns[-1] = replace(turns[-1], messages=(*turns[-1].messages, results))
        if prompt is not None:
            turns.append(Told(prompt, number=len(turns) + 1))
    return turns


def to_markdown(turns: Sequence[Told], title: str = "Conversation with Claude") -> str:
    """The conversation as Markdown: prompts as quotes under headings, answers as they are, tools
    and thoughts folded.
    """
    parts = [f"# {_in_line(title)}"]
    for turn in turns:
        parts.append(f"## {_heading(turn)}")
        prompt = "\n\n".join(_prompt_parts(turn.prompt))
        parts.append("\n".join(f"> {line}".rstrip() for line in prompt.split("\n")))
        parts.extend(_answer_parts(turn))
    return _writable("\n\n".join(parts) + "\n")


def to_notebook(turns: Sequence[Told], title: str = "Conversation with Claude") -> str:
    """The conversation as a notebook (nbformat 4.5): every prompt a `%%claude` cell with the answer
    as its output, so that it can be run again.
    """
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {_in_line(title)}"},
        _code("setup", "%load_ext jupyter_ccapi", []),
    ]
    for index, turn in enumerate(turns, 1):
        prompt = "\n\n".join(block["text"] for block in _texts(turn.prompt))
        outputs = [_display(data) for data in _pictures(turn.prompt.blocks)]
        if answer := "\n\n".join(_answer_parts(turn)):
            outputs.append(_display({"text/markdown": answer, "text/plain": answer}))
        for message in turn.messages:
            for block in message.blocks:
                if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
                    outputs += [_display(data) for data in _pictures(block["content"])]
        cells.append(_code(f"prompt-{index}", f"%%claude\n{prompt}", outputs))
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return _writable(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n")


def _divided(message: Message) -> tuple[Message | None, Message | None]:
    """What in a message belongs to the turn before it, and the prompt in it.

    A prompt after a turn that was stopped comes with the results of the tools it had called.
    """
    if message.role == "assistant":
        return message, None
    results = [block for block in message.blocks if block.get("type") == "tool_result"]
    if not results:
        return None, message
    rest = [block for block in message.blocks if block not in results and not _is_note(block)]
    return Message("user", results), Message("user", rest) if rest else None


def _is_note(block: Block) -> bool:
    """Whether Claude Code has added a block by itself."""
    return str(block.get("text") or "").startswith("<system-reminder>")


def _heading(turn: Told) -> str:
    when = f"{turn.when:%Y-%m-%d %H:%M}" if turn.when else ""
    number = "" if turn.number is None else str(turn.number)
    return " · ".join(part for part in (number, when) if part) or "Prompt"


def _prompt_parts(prompt: Message) -> Iterator[str]:
    for block in prompt.blocks:
        match block.get("type"):
            case "text" if _is_note(block):
                pass
            case "text":
                yield str(block.get("text") or "").strip("\n")
            case kind:
                source = block.get("source") or {}
                yield f"*({_in_line(str(source.get('media_type') or kind))})*"


def _answer_parts(turn: Told) -> Iterator[str]:
    """What was said and done, piece by piece, in its order."""
    results = {
        str(block.get("tool_use_id")): block
        for message in turn.messages
        for block in message.blocks
        if block.get("type") == "tool_result"
    }
    for message in turn.messages:
        for block in message.blocks if message.role == "assistant" else ():
            match block.get("type"):
                case "text" if str(block.get("text") or "").strip():
                    yield _closed(block["text"].strip("\n"))
                case "thinking" if block.get("thinking"):
                    yield _folded("Thoughts", _fenced(str(block["thinking"]), "text"))
                case "tool_use":
                    yield _tool(block, results.get(str(block.get("id"))))


def _tool(call: Block, result: Block | None) -> str:
    """A call of a tool, folded: its input, and what came of it."""
    wire = str(call.get("name") or "tool")
    name = plain_name(wire) or wire
    given = call.get("input") or {}
    rest = dict(given) if isinstance(given, Mapping) else {"input": given}
    parts = []
    for field, language in _LANGUAGES.items():
        if isinstance(rest.get(field), str):
            parts.append(_fenced(rest.pop(field), language))
    if rest:
        parts.append(_fenced(json.dumps(rest, ensure_ascii=False, indent=2), "json"))
    state = ""
    if result is not None:
        state = " (failed)" if result.get("is_error") else ""
        parts.extend(_result_parts(result.get("content")))
    return _folded(f"{name}: {_gist(given)}".removesuffix(": ") + state, "\n\n".join(parts))


def _result_parts(content: Any) -> Iterator[str]:
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
        if block.get("type") == "text":
            if str(block.get("text") or "").strip():
                yield _fenced(str(block["text"]), "text")
        else:
            yield f"*({_in_line(str(block.get('type')))})*"


def _gist(given: Any) -> str:
    """The first short text of an input: a command, a path."""
    values = given.values() if isinstance(given, Mapping) else ()
    for value in values:
        if isinstance(value, str) and value.strip():
            first = value.strip().partition("\n")[0]
            return first if len(first) <= _LINE else f"{first[:_LINE]}…"
    return ""


def _folded(summary: str, body: str) -> str:
    # Markdown is read as such again after an empty line.
    title = escape(_in_line(summary), quote=False)
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _fenced(text: str, language: str) -> str:
    """Put a text into a code block; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _closed(text: str) -> str:
    """End a code block that a broken-off answer has left open, so that it swallows nothing."""
    open_with = ""
    for line in text.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})(.*)$", line)
        if mark is None:
            continue
        if not open_with:
            open_with = "" if mark[1][0] == "`" and "`" in mark[2] else mark[1]
        elif mark[1].startswith(open_with) and not mark[2].strip():
            open_with = ""
    return f"{text}\n{open_with}" if open_with else text


def _writable(text: str) -> str:
    """Without halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _in_line(text: str) -> str:
    return " ".join(text.split())


def _texts(message: Message) -> Iterator[Block]:
    blocks = (block for block in message.blocks if block.get("type") == "text")
    return (block for block in blocks if not _is_note(block))


def _pictures(blocks: Sequence[Block]) -> Iterator[dict[str, str]]:
    """The pictures among blocks as MIME bundles, the API's form or MCP's."""
    for block in blocks:
        source = block.get("source") or block
        kind = str(source.get("media_type") or source.get("mimeType") or "")
        if block.get("type") == "image" and kind.startswith("image/") and source.get("data"):
            yield {kind: str(source["data"]), "text/plain": f"<{kind}>"}


def _code(name: str, source: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": outputs,
        "source": source,
    }


def _display(data: dict[str, str]) -> dict[str, Any]:
    return {"data": data, "metadata": {}, "output_type": "display_data"}
