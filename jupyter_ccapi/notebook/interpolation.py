"""`-f`: the values of `{expressions}` in a prompt, as `str.format` and f-strings write them."""

from string import Formatter
from typing import Any

from IPython.core.error import UsageError

_FORMATTER = Formatter()


def interpolate(text: str, variables: dict[str, Any]) -> str:
    """Put the value of each `{expression}` in its place; `{{` and `}}` are braces.

    `!r` and `:.2f` behind an expression say how its value is written; what is put in is not looked
    into again. Raises `UsageError`.
    """
    try:
        pieces = list(_FORMATTER.parse(text))
    except ValueError as error:
        raise UsageError(
            f"-f: the braces of the prompt cannot be read ({error}). Write {{{{ and }}}} for "
            "braces, and give an expression with a colon or a ! a name first."
        ) from None
    parts: list[str] = []
    for literal, expression, spec, conversion in pieces:
        parts.append(literal)
        if expression is not None:
            parts.append(_written(expression, spec or "", conversion, variables))
    return "".join(parts)


def evaluate(expression: str, variables: dict[str, Any], what: str) -> Any:
    """The value of an expression among the user's variables; `what` begins the message where it
    has none. Raises `UsageError`.
    """
    try:
        return eval(compile(expression.strip(), f"<{what}>", "eval"), variables)
    except Exception as error:
        raise UsageError(f"{what} cannot be evaluated: {_said(error)}") from None


def _written(expression: str, spec: str, conversion: str | None, variables: dict[str, Any]) -> str:
    what = f"-f: {{{expression}}}"
    if not expression.strip():
        raise UsageError("-f: {} holds no expression. Write {{ and }} for braces.")
    value = evaluate(expression, variables, what)
    spec = interpolate(spec, variables)
    try:
        return format(_FORMATTER.convert_field(value, conversion), spec)
    except Exception as error:
        raise UsageError(f"{what} cannot be written as text: {_said(error)}") from None


def _said(error: Exception) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}".removesuffix(": ")
