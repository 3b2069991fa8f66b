"""Describe any Python object in few words: typed, of bounded size, without harm.

Nothing is imported for it: what an object is, its class says. Generators are not consumed, lazy
data is not computed, and user code that an object brings (``__repr__``, properties) can neither
break a description nor hold it up.
"""

import collections.abc
import dataclasses
import inspect
import io
import signal
import sys
import threading
import time
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any

from . import describing_data as data
from .describing_plain import CALLABLES, is_a, is_plain, plain, short, signature, type_name
from .sheet import Sheet, TimeUp, bytes_text, raised, shorten

_SECONDS = 2.0

#: Packages whose objects stand for work not done yet, which even a repr may start.
_LAZY = {"dask", "django", "ibis", "pyspark", "ray", "sqlalchemy", "vaex"}

_ONCE = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def describe(name: str, value: object, *, most: int = 4000) -> str:
    """What ``value`` is, in at most ``most`` characters, under the name ``name``."""
    sheet = Sheet(most)
    sheet.add(f"{name}: {type_name(value)}")
    try:
        with _time_limit(_SECONDS):
            _fill(value, sheet)
    except TimeUp:
        sheet.add(f"(more takes longer than {_SECONDS:g} s to find out)")
    except Exception as error:
        sheet.add(f"(more cannot be found out: {raised(error)})")
    return str(sheet)


def one_line(value: object) -> str:
    """Type and size, or value, in a line. Runs no code of the user's."""
    try:
        known = data.known(value)
        if known is not None:
            return f"{type_name(value)}: {known.line(value)}".removesuffix(": ")
        return short(value, 1, 120).removeprefix("<").removesuffix(">")
    except Exception:
        return type_name(value)


def size(value: object) -> str:
    """How much memory an object takes, as far as that is known at once; else empty."""
    try:
        known = data.known(value)
        if known is not None and known.size is not None:
            return bytes_text(known.size(value))
        for kind in (str, bytes, bytearray, list, dict, set, frozenset):
            if is_a(value, kind) and (length := kind.__sizeof__(value)) >= 2**10:
                return bytes_text(length)
    except Exception:
        return ""
    return ""


def package(value: object) -> str:
    """The top-level package that an object's class comes from."""
    return str(type(value).__module__).partition(".")[0]


def _fill(value: Any, sheet: Sheet) -> None:
    """Describe by the first that knows such objects."""
    known = data.known(value)
    if known is not None:
        known.fill(value, sheet)
    elif package(value) in _LAZY:
        sheet.add("stands for work that is not done yet; nothing of it was computed")
    elif is_a(value, type):
        _class(value, sheet)
    elif is_a(value, types.ModuleType):
        _module(value, sheet)
    elif is_a(value, *CALLABLES):
        _function(value, sheet)
    elif is_a(value, *_ONCE):
        _once(value, sheet)
    elif is_plain(value):
        plain(value, sheet)
    else:
        _object(value, sheet)


def _function(value: Any, sheet: Sheet) -> None:
    sheet.add(signature(value))
    source: list[str] = []
    with sheet.quietly():
        source = inspect.getsource(value).rstrip().splitlines()
    if not source:
        _doc(value, sheet, 12)
        return
    most = 3 * sheet.items
    more = [f"… ({len(source):,} lines)"] if len(source) > most else []
    sheet.add("\n".join(("source:", *source[:most], *more)))


def _class(value: type, sheet: Sheet) -> None:
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    sheet.add(f"class {signature(value)}" + (f", of {bases}" if bases else ""))
    _doc(value, sheet, 12)
    sheet.add(f"of its own: {_names(vars(value), 4 * sheet.items)}")


def _module(value: types.ModuleType, sheet: Sheet) -> None:
    for label, name in (("version", "__version__"), ("file", "__file__")):
        if isinstance(found := vars(value).get(name), str):
            sheet.add(f"{label} {found}")
    _doc(value, sheet, 3)
    sheet.add(f"names: {_names(vars(value), 4 * sheet.items)}")


def _once(value: Any, sheet: Sheet) -> None:
    """A generator or a coroutine: where it stands; it is not moved."""
    frames = (getattr(value, name, None) for name in ("gi_frame", "cr_frame", "ag_frame"))
    frame = next((frame for frame in frames if frame is not None), None)
    where = f"at line {frame.f_lineno} of its code" if frame is not None else "at its end"
    sheet.add(f"{value.__qualname__}, {where}; it was not consumed")


def _object(value: Any, sheet: Sheet) -> None:
    """Any other object: its repr, if its class has one, and what it holds."""
    kind = type(value)
    if is_a(value, io.IOBase):
        for name in ("name", "mode", "closed"):
            with sheet.quietly():
                sheet.add(f"{name}: {getattr(value, name)}")
        return
    if kind.__module__ == "__main__":
        _doc(kind, sheet, 3)
    # A dataclass's fields follow.
    own = inspect.getattr_static(kind, "__repr__") is not object.__repr__
    if own and not dataclasses.is_dataclass(kind):
        sheet.tell("repr", lambda: shorten(repr(value), sheet.most // 2))
    if issubclass(kind, collections.abc.Iterator):
        sheet.add("an iterator; it was not consumed")
        return
    if hasattr(kind, "__len__"):
        sheet.tell("len", lambda: len(value))
    held = _held(value)
    for name in islice(held, sheet.items):
        sheet.tell(f"  .{name}", lambda name=name: short(held[name]))  # type: ignore[misc]
    if len(held) > sheet.items:
        sheet.add(f"  … and {len(held) - sheet.items:,} more attributes")
    if package(value) not in sys.stdlib_module_names | data.PACKAGES:
        methods = [name for name in dir(kind) if callable(inspect.getattr_static(kind, name, 0))]
        sheet.add(f"methods: {_names(methods, 2 * sheet.items)}")


def _held(value: object) -> dict[str, Any]:
    """An object's own attributes, without any code of its class; those in slots too."""
    try:
        held = dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        held = {}
    for base in type(value).__mro__:
        for name, slot in list(vars(base).items()):
            if inspect.ismemberdescriptor(slot):
                try:
                    held[name] = slot.__get__(value)
                except AttributeError:  # it was never set
                    continue
    return {name: item for name, item in held.items() if not str(name).startswith("_")}


def _doc(value: object, sheet: Sheet, lines: int) -> None:
    if found := inspect.getdoc(value):
        sheet.add("\n".join(found.splitlines()[:lines]))


def _names(found: Iterable[Any], most: int) -> str:
    names = [name for name in found if isinstance(name, str) and not name.startswith("_")]
    more = f", … {len(names):,} in all" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeUp`` in the block when it takes longer, where the system has such a timer.

    The timer may be the user's own as well: it then goes on after the block.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "setitimer") or not in_main:
        yield
        return
    inside = True

    def up(number: int, frame: FrameType | None) -> None:
        if inside:
            raise TimeUp

    handler, began = signal.signal(signal.SIGALRM, up), time.monotonic()
    # Again and again: code may catch whatever is raised.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        yield
    finally:
        inside = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:
            left = max(left - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, interval)
