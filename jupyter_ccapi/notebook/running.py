"""Run code in the user's namespace as a cell would, interruptible, and tell what came of it.

What it puts out is caught, not shown (``capturing``); ``In``, ``Out`` and ``_`` stay as they are.
"""

import ast
import asyncio
import inspect
import signal
import threading
import traceback
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, TypeVar

from IPython.core.error import InputRejected, UsageError
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from .capturing import Picture, capturing, cut_middle

T = TypeVar("T")

_MOST_ERROR = 8_000
_NESTED = "A cell of %claude or %%claude cannot be run from within a turn: do its task yourself."


class CodeFailed(Exception):
    """Code raised, or could not be run; the message is what the model is told."""


class Interrupted(Exception):
    """The user stopped the code; the message is what the model is told."""


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
            error = await interruptible(_as_cell(shell, code))
        except Interrupted:
            interrupted = True
    return Outcome(captured.text(), captured.pictures(), error, interrupted)


async def interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await user code so that SIGINT ends it; raises ``Interrupted`` then.

    While it computes, that is a ``KeyboardInterrupt`` in it; while it waits, it is cancelled: a
    ``KeyboardInterrupt`` would end the event loop. Code that goes on in spite of it has ended in
    an interrupt all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        return await coroutine  # signals are the main thread's alone
    loop, steps = asyncio.get_running_loop(), _Steps()
    task = loop.create_task(steps.drive(coroutine))

    def pressed(number: int, frame: FrameType | None) -> None:
        steps.pressed = True
        if steps.computing:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    with _on_sigint(pressed):
        try:
            answer = await task
        except asyncio.CancelledError:
            if not steps.pressed or _is_cancelled():
                raise
    if steps.pressed:
        raise Interrupted
    return answer


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Within the block SIGINT raises ``KeyboardInterrupt``, as it does in a cell that computes.

    For user code that runs without an ``await``, whatever handler stands around it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _on_sigint(signal.default_int_handler):
        yield


class _Steps:
    """Drives a coroutine step by step; knows whether one runs, and whether SIGINT has come."""

    def __init__(self) -> None:
        self.computing = self.pressed = False

    async def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await self._stepped(coroutine)

    @types.coroutine
    def _stepped(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await a coroutine, by PEP 380's rules."""
        resume: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                try:
                    self.computing = True
                    awaited = resume(value)
                finally:
                    self.computing = False
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            except KeyboardInterrupt:
                self.computing = False
                coroutine.close()
                raise Interrupted from None
            try:
                value = yield awaited
                resume = coroutine.send
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:
                value, resume = error, coroutine.throw


@contextmanager
def _on_sigint(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        # Not where another was put there meanwhile: the one before may be out of date.
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _as_cell(shell: InteractiveShell, code: str) -> str:
    """Run code between the events of a cell (autoreload listens, figures are drawn); returns its
    error.
    """
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
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        result.error_in_exec = error
        return _told(shell, error, name)
    finally:
        shell.events.trigger("post_execute")
        shell.events.trigger("post_run_cell", result)
    return ""


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
