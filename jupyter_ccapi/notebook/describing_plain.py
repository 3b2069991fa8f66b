"""Describe Python's own values and containers.

Subclasses are read by the built-in's own methods: what a user's class overrides does not run.
"""

import enum
import inspect
import types
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePath
from typing import Any

from . import describing_data as data
from .sheet import Sheet, shorten

CALLABLES = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)

_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_SCALARS = (type(None), bool, int, float, complex, range, enum.Enum)
_NUMBERS = (type(None), bool, int, float, complex)
_TEXTS = (str, bytes, bytearray)
#: Packages whose objects are values: their reprs are short and safe.
_VALUES = {"datetime", "decimal", "fractions", "uuid", "zoneinfo"}
_DEPTH = 2
_INSIDE = 4
_LINE = 200


def is_a(value: object, *kinds: type) -> bool:
    """``isinstance`` by the class alone: ``__class__`` may be a user's property."""
    return issubclass(type(value), kinds)


def is_plain(value: object) -> bool:
    """Whether this module describes such values."""
    return is_a(value, *_SCALARS, *_TEXTS, *_CONTAINERS) or type(value).__module__ in _VALUES


def type_name(value: object) -> str:
    """The name of an object's class, with its module where that says something."""
    kind = type(value)
    module, name = str(kind.__module__), str(kind.__qualname__)
    if module in ("builtins", "__main__"):
        return name
    parts = [part for part in module.split(".") if not part.startswith("_")]
    return ".".join((*(parts[:1] if parts[:1] and parts[0] in data.PACKAGES else parts), name))


def plain(value: Any, sheet: Sheet) -> None:
    """Describe a value or a container."""
    if is_a(value, *_TEXTS):
        _text(value, sheet)
    elif is_a(value, *_CONTAINERS):
        _entries(value, sheet)
    else:
        sheet.add(short(value, room=sheet.most // 2))


def short(value: Any, depth: int = _DEPTH, room: int = _LINE) -> str:
    """A value's repr, bounded in depth and length; of objects that are not plain, the type."""
    return shorten(_brief(value, depth, room), room)


def _text(value: Any, sheet: Sheet) -> None:
    kind, unit = (str, "characters") if is_a(value, str) else (bytes, "bytes")
    length = len(bytes(value)) if kind is bytes else str.__len__(value)
    if kind is bytes:
        start: str = repr(bytes(value[: sheet.most // 8]))
        cut = length > sheet.most // 8
    else:
        start = str.__getitem__(value, slice(sheet.room() - 40))
        cut = length > len(start)
    sheet.add(f"{length:,} {unit}{', the beginning:' if cut else ':'}")
    sheet.add(start)


def _entries(value: Any, sheet: Sheet) -> None:
    length, entries = _contents(value)
    sheet.add(f"{length:,} {'entry' if length == 1 else 'entries'}{_tally(value)}")
    names = getattr(type(value), "_fields", ()) if is_a(value, tuple) else ()
    numbers = all(is_a(entry, *_NUMBERS) for entry in islice(_contents(value)[1], 100))
    if numbers and not names and not is_a(value, dict):
        sheet.add(_container(value, 1, _LINE, sheet.items))
        return
    for number, entry in enumerate(islice(entries, sheet.items)):
        if is_a(value, dict):
            sheet.add(f"  {short(entry[0], 1, 60)}: {short(entry[1])}")
        elif number < len(names):
            sheet.add(f"  {names[number]} = {short(entry)}")
        else:
            mark = "-" if is_a(value, set, frozenset) else f"[{number}]"
            sheet.add(f"  {mark} {short(entry)}")
    if length > sheet.items:
        sheet.add(f"  … and {length - sheet.items:,} more")


def _contents(value: Any) -> tuple[int, Iterator[Any]]:
    """How many entries a container has, and them; of a dict (key, value) pairs."""
    if is_a(value, dict):
        return dict.__len__(value), iter(dict.items(value))
    kind: Any = next(kind for kind in _CONTAINERS if is_a(value, kind))
    return kind.__len__(value), kind.__iter__(value)


def _tally(value: Any) -> str:
    """Of what types the first thousand entries are."""
    first = islice(_contents(value)[1], 1000)
    entries = [entry[1] for entry in first] if is_a(value, dict) else list(first)
    kinds = Counter(type(entry).__name__ for entry in entries).most_common(5)
    if len(kinds) == 1:
        return f", all {kinds[0][0]}"
    return ": " + ", ".join(f"{count} {name}" for name, count in kinds) if kinds else ""


def _brief(value: Any, depth: int, room: int) -> str:
    if is_a(value, enum.Enum):
        return f"{type(value).__name__}.{enum.Enum.__dict__['name'].__get__(value)}"
    if is_a(value, str):
        text = str.__getitem__(value, slice(room))
        more = str.__len__(value) > len(text)
        return f"{text[: room - 30]!r}… ({str.__len__(value):,} characters)" if more else repr(text)
    if is_a(value, bytes, bytearray):
        cut = bytes(value[:20])
        return f"{cut!r}… ({len(value):,} bytes)" if len(value) > 20 else repr(cut)
    if is_a(value, int):
        # A repr of more digits than Python's limit is an error.
        small = int.bit_length(value) < 1000
        kind: Any = bool if is_a(value, bool) else int
        return str(kind.__repr__(value)) if small else f"int of {int.bit_length(value):,} bits"
    others: tuple[Any, ...] = (float, complex, range, type(None), PurePath)
    for other in others:
        if is_a(value, other):
            return str(other.__repr__(value))
    if is_a(value, *_CONTAINERS):
        return _container(value, depth, room, _INSIDE * 2 if depth >= _DEPTH else _INSIDE)
    return repr(value) if type(value).__module__ in _VALUES else _object(value)


def _container(value: Any, depth: int, room: int, most: int = _INSIDE) -> str:
    """The first ``most`` entries, as Python would write them."""
    length, entries = _contents(value)
    kind = type(value).__name__
    if depth <= 0 and length:
        return f"<{kind} of {length:,}>"
    shown = list(islice(entries, most))
    if is_a(value, dict):
        texts = [f"{short(k, 0, 40)}: {short(v, depth - 1, room // 2)}" for k, v in shown]
    else:
        texts = [short(entry, depth - 1, room // 2) for entry in shown]
    if length > len(shown):
        texts.append(f"… {length:,} in all")
    inside = ", ".join(texts)
    if is_a(value, tuple):
        prefix = "" if kind == "tuple" else kind
        return f"{prefix}({inside}{',' if length == 1 and not prefix else ''})"
    left, right = "[]" if is_a(value, list, deque) else "{}"
    written = f"{left}{inside}{right}"
    if kind in ("dict", "list") or (kind == "set" and length):
        return written
    return f"{kind}({written if length else ''})"


def _object(value: Any) -> str:
    if is_a(value, type):
        return f"<class {type.__dict__['__name__'].__get__(value)}>"
    if is_a(value, *CALLABLES):
        return f"<{type(value).__name__} {signature(value)}>"
    known = data.known(value)
    line = known.line(value) if known is not None else ""
    return f"<{type_name(value)}: {line}>" if line else f"<{type_name(value)}>"


def signature(value: Any) -> str:
    """A callable's name and parameters."""
    name = getattr(value, "__qualname__", "?")
    try:
        return f"{name}{inspect.signature(value)}"
    except (TypeError, ValueError):
        return f"{name}(…)"
