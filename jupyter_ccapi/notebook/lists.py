"""Checkpoints and conversations as tables, in HTML and in text."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from jupyter_ccapi.claude.record import Checkpoint

from . import looks
from .desk import Kept
from .looks import Bundle

_NO_CHECKPOINT = "No checkpoints yet: each prompt is one."
_NO_CONVERSATION = "No conversation is kept yet."
_SHORT = 8


def checkpoints(listed: Sequence[Checkpoint]) -> Bundle:
    """The checkpoints of a conversation: number, time, first words, files changed."""
    if not listed:
        return looks.line(_NO_CHECKPOINT)
    rows = [(str(one.number), clock(one.when), one.words, changes_of(one)) for one in listed]
    return table(("", "Sent", "Prompt", "Changed"), rows)


def conversations(kept: Sequence[Kept], notebook: Path | None) -> Bundle:
    """The conversations that can be gone on with, and where each was had."""
    if not kept:
        return looks.line(_NO_CONVERSATION)
    rows = []
    for one in kept:
        here = "this kernel" if one.open else _place(one, notebook)
        rows.append((one.id[:_SHORT], one.name, here, clock(one.when), str(one.prompts), one.first))
    return table(("ID", "Name", "Where", "Last", "Prompts", "It began with"), rows)


def changes_of(checkpoint: Checkpoint) -> str:
    """What a checkpoint's turn has changed: `2 files +10 -3`."""
    count = len(checkpoint.files)
    if not count:
        return ""
    files = checkpoint.files[0] if count == 1 else f"{count} files"
    lines = f"+{checkpoint.insertions} \u2212{checkpoint.deletions}"
    return f"{files} {lines}" if checkpoint.insertions or checkpoint.deletions else files


def clock(when: float) -> str:
    """A time for people, in the kernel's zone: today's without the date."""
    then = datetime.fromtimestamp(when)
    today = then.date() == datetime.now().date()
    return then.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Bundle:
    """A table, as JupyterLab styles those of its outputs."""
    cell = 'style="text-align: left; white-space: pre-wrap"'
    top = "".join(f"<th {cell}>{escape(head)}</th>" for head in heads)
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{escape(text)}</td>" for text in row) + "</tr>"
        for row in rows
    )
    html = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return {"text/html": html, "text/plain": _aligned([heads, *rows])}


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _place(kept: Kept, notebook: Path | None) -> str:
    if not kept.notebook:
        return ""
    if notebook is not None and kept.notebook == str(notebook):
        return "this notebook"
    return Path(kept.notebook).name
