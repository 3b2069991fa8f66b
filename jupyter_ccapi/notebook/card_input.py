"""What a tool call is about: in a few words, and in full."""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .trimming import shortened, visible

_WIDTH = 160
# Comparing takes up to the square of the lines, on the kernel's own thread.
_MOST_COMPARED = 1_000_000
_FILES = ("file_path", "notebook_path")

#: Where a tool's input says in one field what it is about, the first of these that it has.
_TELLING = (
    "command",
    "pattern",
    "url",
    "query",
    "description",
    "subject",
    "code",
    "source",
    "plan",
    "prompt",
    "question",
    "name",
    "path",
)


def plain_name(tool: str) -> str:
    """A tool's name for people: of `mcp__github__search` it is `github: search`, and of one of
    our own the name alone.
    """
    if not tool.startswith("mcp__"):
        return tool
    server, _, name = tool.removeprefix("mcp__").partition("__")
    return name if server == "client" else f"{server}: {name}"


def headline(given: Mapping[str, Any], folder: Path | None = None) -> str:
    """What a call is about, on one line; files are named as seen from `folder`."""
    for key in _FILES:
        if path := _text(given.get(key)):
            return shortened(_place(path, folder) + _part(given), _WIDTH)
    if items := todos(given):
        return shortened(_progress(items), _WIDTH)
    for key in _TELLING:
        if text := _text(given.get(key)):
            where = _text(given.get("path")) if key == "pattern" else ""
            return _first_line(text) + (f" in {_place(where, folder)}" if where else "")
    if questions := _dicts(given.get("questions")):
        return _first_line(_text(questions[0].get("question")))
    said = (str(value) for value in given.values() if isinstance(value, str | int | float))
    return shortened(visible(" ".join(said)), _WIDTH)


def fields(given: Mapping[str, Any]) -> str:
    """All of an input, a field on each line, and text of several lines below its name; of a text
    that is all there is no name is said.
    """
    match list(given.values()):
        case [str(only)]:
            return visible(only)
    lines = []
    for key, value in given.items():
        text = visible(value if isinstance(value, str) else _json(value))
        lines.append(
            f"{visible(key)}:\n{_indented(text)}" if "\n" in text else f"{visible(key)}: {text}"
        )
    return "\n".join(lines)


def edit(tool: str, given: Mapping[str, Any], folder: Path | None = None) -> str:
    """The diff that an edit asks for, as far as its input tells: the lines that it replaces, of a
    new text all; empty where a call is no edit.
    """
    path = next((text for key in _FILES if (text := _text(given.get(key)))), "")
    if not path:
        return ""
    match tool:
        case "Write":
            pairs = [("", _text(given.get("content")))]
        case "Edit" | "MultiEdit":
            edits = _dicts(given.get("edits")) or [dict(given)]
            pairs = [(_text(one.get("old_string")), _text(one.get("new_string"))) for one in edits]
        case "NotebookEdit":
            pairs = [("", _text(given.get("new_source")))]
        case _:
            return ""
    name = _place(path, folder)
    return "\n".join(line for old, new in pairs for line in _diff(name, old, new))


def todos(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The items of a list of things to do, each with its status (`pending`, `in_progress` or
    `completed`); none where there is no such list.
    """
    items = []
    for one in _dicts(given.get("todos")):
        status = _text(one.get("status"))
        active = _text(one.get("activeForm")) if status == "in_progress" else ""
        items.append((status, visible(active or _text(one.get("content")))))
    return items


def _progress(items: list[tuple[str, str]]) -> str:
    done = sum(status == "completed" for status, _ in items)
    now = next((text for status, text in items if status == "in_progress"), "")
    count = f"{done} of {len(items)} done"
    return f"{count} · {now}" if now else count


def _part(given: Mapping[str, Any]) -> str:
    """Which lines of a file are read, where it is not all of it."""
    start, count = given.get("offset"), given.get("limit")
    if not isinstance(start, int) and not isinstance(count, int):
        return ""
    first = start if isinstance(start, int) else 1
    return (
        f", lines {first} to {first + count - 1}" if isinstance(count, int) else f", from {first}"
    )


def _place(path: str, folder: Path | None) -> str:
    path = visible(path)
    if folder is not None and Path(path).is_relative_to(folder):
        return Path(path).relative_to(folder).as_posix()
    return path


def _first_line(text: str) -> str:
    lines = [line for line in visible(text).splitlines() if line.strip()]
    more = " …" if len(lines) > 1 else ""
    return shortened(lines[0], _WIDTH) + more if lines else ""


def _diff(name: str, old: str, new: str) -> Iterable[str]:
    before, after = old.splitlines(), new.splitlines()
    if len(before) * len(after) > _MOST_COMPARED:
        yield from (f"--- a/{name}", f"+++ b/{name}", f"@@ -1,{len(before)} +1,{len(after)} @@")
        yield from (f"-{line}" for line in before)
        yield from (f"+{line}" for line in after)
    else:
        yield from difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.split("\n"))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
