"""What a rewind did, or would do, as a person reads it, in HTML and as text."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from jupyter_ccapi.claude.changes import FileChange, NotCovered
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.record import Checkpoint

from . import diffs
from .looks import BAD, GOOD, LINE, MUTED, Bundle, folded, note, safe, span
from .trimming import shortened, visible

# So many of a kind are named; of more their number is said.
_MOST = 50
_BEGIN = re.compile(r"^diff --git ", re.MULTILINE)
_RELOAD = "An editor in which one of these files is open shows it as it was: reload it from disk."
_TITLE = f"{LINE}; font-weight: 600"
_INDENT = f"{LINE}; margin-left: 16px"


def bundle(plan: Plan, *, done: bool, undo: bool = False) -> Bundle:
    """A rewind as a cell shows it: whether it was ``done`` or is only looked at; with ``undo`` it
    takes one back.
    """
    return {
        "text/html": html(plan, done=done, undo=undo),
        "text/plain": text(plan, done=done, undo=undo),
    }


def html(plan: Plan, *, done: bool, undo: bool = False) -> str:
    """The same as HTML; each file unfolds to what changes in it."""
    parts = [f'<div style="{_TITLE}">{safe(_title(plan, done, undo))}</div>']
    if plan.conflicts:
        parts.append(f'<div style="{LINE}; {BAD}">{safe(_conflicts(plan))}</div>')
    if plan.note:
        parts.append(note(visible(plan.note)))
    parts += [_file_html(file, diff) for file, diff in _with_diffs(plan)]
    parts += _notes_html(_own(plan), MUTED)
    if plan.kept:
        parts.append(note("Left as they are:"))
        parts += _notes_html(_bounded([f"{visible(path)}: {why}" for path, why in plan.kept]))
    parts += [_line(line) for line in _said(plan, done)]
    if plan.not_covered:
        grouped = _not_covered(plan.not_covered)
        lines = [f"{why}: {', '.join(_bounded(paths))}" for why, paths in grouped]
        summary = span(MUTED, _not_covered_line(grouped))
        parts.append(folded(summary, "".join(note(visible(line)) for line in lines)))
    return "".join(parts)


def text(plan: Plan, *, done: bool, undo: bool = False, colours: bool = False) -> str:
    """The same as text; the diff only of a rewind that was not done yet, with ``colours`` in those
    of a terminal.
    """
    lines = [_title(plan, done, undo)]
    lines += [_conflicts(plan)] if plan.conflicts else []
    lines += [visible(plan.note)] if plan.note else []
    lines += _bounded([f"  {_file_text(file)}" for file in plan.files])
    lines += [f"  {one}" for one in _own(plan)]
    if plan.kept:
        lines.append("Left as they are:")
        lines += _bounded([f"  {visible(path)}: {why}" for path, why in plan.kept])
    lines += _said(plan, done)
    if plan.not_covered:
        lines.append(_not_covered_line(_not_covered(plan.not_covered)))
    if plan.diff and not done:
        lines += ["", diffs.text(plan.diff.rstrip("\n"), colours=colours)]
    return "\n".join(lines)


def counts(insertions: int, deletions: int) -> str:
    """How many lines were added and removed, in colours: `+3 -1`."""
    parts = [span(GOOD, f"+{insertions:,}")] if insertions else []
    return " ".join([*parts, span(BAD, f"-{deletions:,}")] if deletions else parts)


def _title(plan: Plan, done: bool, undo: bool) -> str:
    where = f"rewind to before prompt {plan.checkpoint}"
    where += f" (“{shortened(visible(plan.words), 80)}”)" if plan.words else ""
    if plan.conflicts and not done:
        return f"{'Taking back the' if undo else 'A'} {where} would be refused:"
    if undo:
        return f"The {where} was taken back" if done else f"Taking back the {where} would do this:"
    return f"Rewound{where.removeprefix('rewind')}" if done else f"A {where} would do this:"


def _conflicts(plan: Plan) -> str:
    names = ", ".join(_bounded([visible(path) for path in plan.conflicts]))
    return (
        f"Changed by another hand after Claude's change: {names}. Nothing is done unless that is "
        "overwritten (force), or the conversation alone is rewound."
    )


def _said(plan: Plan, done: bool) -> list[str]:
    """The sentences about prompts and variables, and what is to do."""
    lines = []
    if not (plan.files or plan.own or plan.conflicts):
        lines.append("No file changed." if done else "No file changes.")
    if plan.undone:
        lines.append(f"{'Prompts undone' if done else 'Prompts to undo'}: {_prompts(plan.undone)}")
    if plan.returns:
        verb = "Prompts that are back" if done else "Prompts that come back"
        lines.append(f"{verb}: {_prompts(plan.returns)}")
    if plan.variables:
        names = ", ".join(_bounded([visible(name) for name in plan.variables]))
        stale = "the undone turns are stale" if done else "these turns would be stale"
        lines.append(f"Variables set by {stale}: {names}")
    if done and (plan.files or plan.own):
        lines.append(_RELOAD)
    return lines


def _prompts(checkpoints: Sequence[Checkpoint]) -> str:
    named = [f"{one.number} “{shortened(visible(one.words), 60)}”" for one in checkpoints]
    return " · ".join(_bounded(named))


def _own(plan: Plan) -> list[str]:
    """The files that Claude Code's own checkpoints put back: what changes in them is not known."""
    return _bounded([visible(path.as_posix()) for path in plan.own])


def _with_diffs(plan: Plan) -> Iterable[tuple[FileChange | str, str]]:
    """Each file with its part of the diff, which is in the same order, and may be cut."""
    starts = [found.start() for found in _BEGIN.finditer(plan.diff)]
    parts = [plan.diff[start:end] for start, end in zip_longest(starts, starts[1:])]
    yield from zip_longest(plan.files[:_MOST], parts[: len(plan.files[:_MOST])], fillvalue="")
    if len(plan.files) > _MOST:
        yield f"… and {len(plan.files) - _MOST:,} more files", ""


def _file_html(file: FileChange | str, diff: str) -> str:
    if isinstance(file, str):
        return note(file)
    changed = counts(file.insertions, file.deletions) or span(MUTED, _without_lines(file))
    line = f"{span(MUTED, file.kind)} {safe(visible(file.path))} {changed}"
    shown = diff.rstrip("\n")
    return folded(line, diffs.html(shown, names=False)) if shown else _line_html(line)


def _file_text(file: FileChange) -> str:
    signs = [f"+{file.insertions:,}"] if file.insertions else []
    signs += [f"-{file.deletions:,}"] if file.deletions else []
    changed = " ".join(signs) or _without_lines(file)
    return f"{file.kind:<8}  {visible(file.path)}  {changed}".rstrip()


def _without_lines(file: FileChange) -> str:
    return "binary" if file.binary else ""


def _not_covered(left_out: Iterable[NotCovered]) -> list[tuple[str, list[str]]]:
    """What is not covered, by the reason, the most frequent first."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for one in left_out:
        grouped[visible(one.why)].append(visible(one.path))
    return sorted(grouped.items(), key=lambda item: -len(item[1]))


def _not_covered_line(grouped: Sequence[tuple[str, Sequence[str]]]) -> str:
    return "Not covered: " + ", ".join(_group(why, paths) for why, paths in grouped)


def _group(why: str, paths: Sequence[str]) -> str:
    if len(paths) > 1:
        return f"{why} ({len(paths):,})"
    return why if paths[0] == "." else f"{paths[0]} ({why})"


def _notes_html(lines: Iterable[str], style: str = "") -> list[str]:
    return [f'<div style="{_INDENT}; {style}">{safe(line)}</div>' for line in lines]


def _line(text: str) -> str:
    return f'<div style="{LINE}">{safe(text)}</div>'


def _line_html(html: str) -> str:
    return f'<div style="{_INDENT}">{html}</div>'


def _bounded(named: list[str]) -> list[str]:
    more = len(named) - _MOST
    return [*named[:_MOST], f"… and {more:,} more"] if more > 0 else named
