"""Run code in the user's namespace as a cell would, interruptible, and tell what came of it.

What it puts out is caught, not shown (``capturing``); ``In``, ``Out`` and ``_`` stay as they are.
"""

import ast
import asyncio
import inspect
import io
import sys
import traceback
from dataclasses import dataclass
from types import CodeType
from typing import Any

from IPython.core.error import InputRejected, UsageError
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from .capturing import Captured, Picture, capturing, cut_middle
from .interrupting import Interrupted, interruptible, is_cancelled
from .sheet import raised

_MOST_ERROR = 8_000
_NESTED = "A cell of %claude or %%claude cannot be run from within a turn: do its task yourself."


class CodeFailed(Exception):
    """Code raised, or could not be run; the message is what the model is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of code that was run. ``error`` is a traceback, or empty."""

    text: str
    pictures: list[Picture]
    error: str = ""
    interrupted: bool = False


async def run(shell: InteractiveShell, code: str) -> Outcome:
    """Run code as a cell of this shell; top-level ``await`` and magics work.

    An error in it, ``SystemExit`` too, is no error here. SIGINT ends it, whether it computes or
    waits.
    """
    error, interrupted = "", False
    with capturing(shell, code) as captured:
        try:
            error = await interruptible(_as_cell(shell, code, captured))
        except Interrupted:
            interrupted = True
    return Outcome(captured.text(), captured.pictures(), error, interrupted)


async def _as_cell(shell: InteractiveShell, code: str, captured: Captured) -> str:
    """Run code between the events of a cell (autoreload listens, figures are drawn); returns its
    error.
    """
    figures = _open_figures()
    name = "run_python"
    try:
        transformed = shell.transform_cell(code)  # type: ignore[no-untyped-call]
        name = shell.compile.cache(transformed, shell.execution_count, raw_code=code)
        units = _compiled(shell, transformed, name)
    except (SyntaxError, ValueError, OverflowError, MemoryError, InputRejected) as error:
        return _told(shell, error.with_traceback(None), name)
    info = ExecutionInfo(code, False, False, True, None, transformed_cell=transformed)  # type: ignore[no-untyped-call]
    result = ExecutionResult(info)  # type: ignore[no-untyped-call]
    shell.events.trigger("pre_execute")
    shell.events.trigger("pre_run_cell", info)
    try:
        with shell.builtin_trap:
            for unit in units:
                if unit.co_flags & inspect.CO_COROUTINE:
                    await eval(unit, shell.user_global_ns, shell.user_ns)
                else:
                    exec(unit, shell.user_global_ns, shell.user_ns)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        result.error_in_exec = error
        return _told(shell, error, name)
    finally:
        shell.events.trigger("post_execute")
        shell.events.trigger("post_run_cell", result)
        _draw(captured, _open_figures() - figures)
    return ""


def _open_figures() -> set[Any]:
    """The managers of the figures that pyplot has open."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return set(helpers.Gcf.figs.values()) if helpers is not None else set()


def _draw(captured: Captured, opened: set[Any]) -> None:
    """Show the model the figures that code has opened, where no cell would display them: outside
    of a notebook, and in one that has chosen another backend than the inline one.
    """
    if not opened or "inline" in sys.modules["matplotlib"].get_backend():
        return
    for manager in sorted(opened, key=lambda manager: manager.num):
        target = io.BytesIO()
        try:
            manager.canvas.figure.savefig(target, format="png")
        except Exception as error:
            captured.write("stderr", f"Figure {manager.num} cannot be drawn: {raised(error)}.\n")
        else:
            captured.show({"image/png": target.getvalue()})


def _compiled(shell: InteractiveShell, transformed: str, name: str) -> list[CodeType]:
    """Compile all but a last expression, and that so that its value is displayed."""
    tree = ast.parse(transformed, name)
    if any(_calls_claude(node) for node in ast.walk(tree)):
        raise InputRejected(_NESTED)
    tree = shell.transform_ast(tree)  # type: ignore[no-untyped-call]
    body, last = tree.body, list[ast.stmt]()
    if body and isinstance(body[-1], ast.Expr):
        body, last = body[:-1], body[-1:]
    units: list[CodeType] = []
    with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
        if body:
            units.append(shell.compile(ast.Module(body, []), name, "exec"))  # type: ignore[arg-type]
        if last:
            units.append(shell.compile(ast.Interactive(last), name, "single"))  # type: ignore[arg-type]
    return units


def _calls_claude(node: ast.AST) -> bool:
    """Whether a node is what IPython makes of %claude… or %%claude."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("run_cell_magic", "run_line_magic")
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("claude")
    )


def _told(shell: InteractiveShell, error: BaseException, name: str) -> str:
    """An error as the model is told it: a traceback without this package's frames."""
    if isinstance(error, UsageError | InputRejected):
        return f"{type(error).__name__}: {error}"
    report = traceback.TracebackException(type(error), error, error.__traceback__)
    _rename(report, shell, name)
    lines = report.format() if report.stack else report.format_exception_only()
    text = "".join(lines).replace(f'File "{name}"', 'File "run_python"')  # of a syntax error
    return cut_middle(text.rstrip(), _MOST_ERROR)


def _rename(report: traceback.TracebackException, shell: InteractiveShell, name: str) -> None:
    """Take our own frames out of a report, and call cells by the names that a reader knows."""
    kept = [frame for frame in report.stack if frame.filename != __file__]
    for frame in kept:
        cell = shell.compile.format_code_name(frame.filename)
        if frame.filename == name:
            frame.filename = "run_python"
        elif cell is not None:
            frame.filename = " ".join(cell)
    report.stack[:] = kept
    for other in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if other is not None:
            _rename(other, shell, name)
