"""Which notebook a kernel belongs to, and what stands in it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from .capturing import ESCAPES, cut_middle
from .describing import one_line

_MOST = 30_000
_MOST_SOURCE = 4_000
_MOST_OUTPUT = 600
_MOST_HISTORY = 50


def notebook_path(shell: InteractiveShell) -> Path | None:
    """The notebook's file, as the server or VS Code named it when the kernel was started; None
    where there is none, or it has another name by now.
    """
    named = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    if not isinstance(named, str) or not named.endswith(".ipynb"):
        return None  # a console's session has a name too
    path = Path(named)
    try:
        return path.resolve() if path.is_file() else None
    except OSError:
        return None


def read_notebook(shell: InteractiveShell) -> str:
    """The cells of the saved notebook with trimmed outputs, and what else has run since.

    About 30,000 characters at most.
    """
    path = notebook_path(shell)
    if path is None:
        said = "This kernel's notebook file is not known; this is what has run in the kernel."
        return cut_middle("\n\n".join((said, *_history(shell, set()))), _MOST)
    try:
        cells = _cells(path)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        said = f"{path} cannot be read as a notebook: {type(error).__name__}: {error}."
        return cut_middle("\n\n".join((said, *_history(shell, set()))), _MOST)
    parts = [f"{path}, as it was saved last ({len(cells)} cells):"]
    parts += [_cell(number, cell) for number, cell in enumerate(cells, 1)]
    unsaved = list(_history(shell, {_joined(cell.get("source")).strip() for cell in cells}))
    if unsaved:
        parts += ["Run in this kernel, and not in the saved file:", *unsaved]
    return cut_middle("\n\n".join(parts), _MOST)


def _cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text("utf-8"))["cells"] if path.stat().st_size else []
    return [dict(cell) for cell in cells]


def _joined(text: Any) -> str:
    """Multi-line text, which a file may have as a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


def _cell(number: int, cell: dict[str, Any]) -> str:
    count = cell.get("execution_count")
    ran = f", run as In[{count}]" if count else ""
    source = cut_middle(_joined(cell.get("source")).rstrip(), _MOST_SOURCE)
    lines = [f"## Cell {number} ({cell.get('cell_type')}{ran})", source]
    for output in cell.get("outputs") or ():
        text = cut_middle(ESCAPES.sub("", _output(output)).strip(), _MOST_OUTPUT)
        lines.append(f"### Output: {text}")
    return "\n".join(lines)


def _output(output: dict[str, Any]) -> str:
    if output.get("output_type") == "stream":
        return f"{output.get('name')}\n{_joined(output.get('text'))}"
    if output.get("output_type") == "error":
        return f"error\n{output.get('ename')}: {output.get('evalue')}"
    data = output.get("data") or {}
    pictures = [kind for kind in data if str(kind).startswith("image/")]
    if pictures:
        return f"a picture ({pictures[0]}, not included)"
    text = data.get("text/markdown") or data.get("text/plain")
    return _joined(text) if text else f"{', '.join(data)} (not included)"


def _history(shell: InteractiveShell, saved: set[str]) -> Iterator[str]:
    """The last cells that the kernel ran and whose sources are not among the saved ones."""
    ran = list(shell.user_ns.get("In", ()))
    raw = list(shell.history_manager.input_hist_raw) if shell.history_manager else ran
    sources = raw if len(raw) == len(ran) else ran
    values = shell.user_ns.get("Out", {})
    unsaved = [
        (number, str(source).strip())
        for number, source in enumerate(sources)
        if str(source).strip() and str(source).strip() not in saved
    ]
    if len(unsaved) > _MOST_HISTORY:
        yield f"(the last {_MOST_HISTORY} of {len(unsaved):,})"
    for number, source in unsaved[-_MOST_HISTORY:]:
        text = f"## In[{number}]\n{cut_middle(source, _MOST_SOURCE)}"
        yield f"{text}\n### Out[{number}]: {one_line(values[number])}" if number in values else text
