"""The user's variables by their names: which there are, what one is, which ones code has set."""

import ast
import difflib
import inspect
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import FunctionType, ModuleType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from .describing import describe, one_line, package, size
from .describing_plain import is_a
from .sheet import raised

_NOTHING = object()
_MOST_LISTED = 200
_MOST_LINE = 160

#: Packages whose attributes are data: reading one runs no code of the user's.
_DATA_PACKAGES = {
    *("builtins", "collections", "datetime", "decimal", "fractions", "pathlib", "types"),
    *("matplotlib", "numpy", "pandas", "PIL", "plotly", "polars", "pyarrow", "scipy", "sklearn"),
    *("torch", "xarray"),
}


class NoSuchVariable(LookupError):
    """There is no such variable; the message says so, and which was probably meant."""


def visible(shell: InteractiveShell) -> dict[str, Any]:
    """What a user calls the notebook's variables: no modules, no names with an underscore at the
    beginning, nothing that IPython itself put there.
    """
    hidden: Mapping[str, Any] = shell.user_ns_hidden
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if isinstance(name, str)
        and not name.startswith("_")
        and not is_a(value, ModuleType)
        and value is not hidden.get(name, _NOTHING)
    }


def listing(shell: InteractiveShell, pattern: str = "*") -> str:
    """A line for each variable whose name matches a pattern as a shell knows them."""
    found = visible(shell)
    names = sorted(name for name in found if fnmatchcase(name, pattern))
    if not names:
        others = f" ({len(found)} have other names)" if found else ""
        return (
            f"No variable matches {pattern!r}{others}." if pattern != "*" else "No variables yet."
        )
    lines = []
    for name in names[:_MOST_LISTED]:
        line = f"{name}: {one_line(found[name])}"
        line = line if len(line) <= _MOST_LINE else f"{line[: _MOST_LINE - 1]}…"
        takes = size(found[name])
        lines.append(f"{line} [{takes}]" if takes else line)
    if len(names) > _MOST_LISTED:
        lines.append(f"… and {len(names) - _MOST_LISTED:,} more: name a pattern.")
    return "\n".join(lines)


def find(shell: InteractiveShell, name: str) -> object:
    """What a name or a dotted name stands for. Raises ``NoSuchVariable``.

    No code of the user's runs: an attribute that a property or ``__getattr__`` of an unknown class
    would compute is not read.
    """
    first, *rest = (part.strip() for part in name.strip().split("."))
    if not all(part.isidentifier() for part in (first, *rest)):
        raise NoSuchVariable(
            f"{name!r} is no name: names and dotted names can be looked at, nothing is evaluated."
        )
    if first not in shell.user_ns:
        raise NoSuchVariable(f"There is no variable {first!r}{_meant(first, visible(shell))}")
    value = shell.user_ns[first]
    path = first
    for part in rest:
        value = _attribute(path, value, part)
        path = f"{path}.{part}"
    return value


def _attribute(path: str, value: object, name: str) -> object:
    try:
        if package(value) in _DATA_PACKAGES:  # classes and modules too
            return getattr(value, name)
        found = inspect.getattr_static(value, name)
        get = getattr(type(found), "__get__", None)
        if isinstance(found, property) or isinstance(get, FunctionType):
            kind = type(value).__name__
            raise NoSuchVariable(f"{path}.{name} is computed by code of {kind}, which is not run.")
        return found if get is None else get(found, value, type(value))
    except AttributeError:
        said = f"{path} has no attribute {name!r}{_meant(name, dir(type(value)))}"
    except NoSuchVariable:
        raise
    except Exception as error:
        said = f"{path}.{name} cannot be read: {raised(error)}."
    raise NoSuchVariable(said)


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f": did you mean {' or '.join(close)}?" if close else "."


def variables_text(shell: InteractiveShell, names: list[str]) -> str:
    """What a prompt says of the variables that ``-v`` names. Raises ``UsageError``."""
    blocks = []
    for name in dict.fromkeys(names):
        try:
            value = find(shell, name)
        except NoSuchVariable as why:
            raise UsageError(f"-v {name}: {why}") from None
        blocks.append(f"<variable>\n{describe(name, value)}\n</variable>")
    return "\n".join(("Variables of the notebook's kernel as they are now:", *blocks))


def changed(shell: InteractiveShell, before: Mapping[str, Any], code: str) -> list[str]:
    """The visible variables that code has set, bound anew, or assigned into (``df["x"] = 1``).

    ``before`` is ``visible`` before it ran. What a method changed in place is not noticed.
    """
    after = visible(shell)
    try:
        assigned = set(_assigned_into(ast.parse(shell.transform_cell(code))))  # type: ignore[no-untyped-call]
    except (SyntaxError, ValueError):
        assigned = set()
    return sorted(
        name
        for name, value in after.items()
        if name in assigned or before.get(name, _NOTHING) is not value
    )


def _assigned_into(tree: ast.AST) -> Iterator[str]:
    """The names before the brackets and dots that are assigned to, outside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            base: ast.expr = node
            while isinstance(base, ast.Subscript | ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name):
                yield base.id
        yield from _assigned_into(node)
