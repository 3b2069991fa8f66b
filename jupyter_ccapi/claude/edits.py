"""What an edit would change, and what it has changed, as unified diffs."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: Claude Code's tools that change files.
EDITING = ("Edit", "Write", "NotebookEdit", "MultiEdit")

# A diff is for a person to read: a file that is larger is not compared, and what is longer is cut.
_MOST_BYTES = 2 * 1024 * 1024
_MOST_LINES = 2_000


def proposed(tool: str, given: Mapping[str, Any], folder: Path) -> str | None:
    """The diff that a call of Claude Code's Write or Edit would make to the file as it is now;
    None for any other call, and where it cannot be told. Reads the file.
    """
    path = given.get("file_path")
    if tool not in ("Write", "Edit") or not isinstance(path, str):
        return None
    try:
        place = folder / path
        if place.exists() and (not place.is_file() or place.stat().st_size > _MOST_BYTES):
            return None
        before = place.read_text(encoding="utf-8") if place.exists() else ""
    except (OSError, ValueError):
        return None
    if tool == "Write":
        after = str(given.get("content", ""))
    else:
        old, new = str(given.get("old_string", "")), str(given.get("new_string", ""))
        every = -1 if given.get("replace_all") else 1
        after = before.replace(old, new, every) if old else new
    return _diff(shown_path(path, folder), before, after)


def made(result: Any, folder: Path) -> str | None:
    """The diff of what an edit has changed, from what Claude Code says beside the tool's result
    (``UserMessage.tool_use_result``: ``filePath``, ``structuredPatch``, and for a new file its
    ``content``); None where it was no edit.
    """
    if not isinstance(result, dict) or not isinstance(result.get("structuredPatch"), list):
        return None
    name = shown_path(str(result.get("filePath", "")), folder)
    if not result["structuredPatch"] and result.get("type") == "create":
        return _diff(name, "", str(result.get("content", "")))
    lines = [f"--- a/{name}", f"+++ b/{name}"]
    for hunk in result["structuredPatch"]:
        if not isinstance(hunk, dict):
            return None
        old = f"-{hunk.get('oldStart')},{hunk.get('oldLines')}"
        new = f"+{hunk.get('newStart')},{hunk.get('newLines')}"
        lines += [f"@@ {old} {new} @@", *(str(line) for line in hunk.get("lines") or ())]
    return _bounded(lines)


def shown_path(path: str, folder: Path) -> str:
    """A file's name for people: relative to the folder where it lies in that, with slashes."""
    try:
        return (folder / path).relative_to(folder).as_posix()
    except ValueError:
        return Path(path).as_posix()


def _diff(name: str, before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm="")
    return _bounded(list(lines))


def _bounded(lines: Iterable[str]) -> str:
    shown = list(lines)
    if len(shown) > _MOST_LINES:
        more = len(shown) - _MOST_LINES
        shown = [*shown[:_MOST_LINES], f"\\ {more:,} more lines are not shown"]
    return "\n".join(shown) + "\n" if shown else ""
