"""Tab completion of the first line of `%%claude` and its sister magics.

The body of a cell, and the text of a `%claude` line, are left to IPython.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.interactiveshell import InteractiveShell

from .command_table import (
    CHECKPOINTS,
    CLAUDE,
    CLAUDE_LINE,
    CONVERSATIONS,
    EXPORT,
    LOGIN_HELP,
    REWIND,
    STATUS,
)
from .usage import Command, Option, split

_COMMANDS = {
    command.name: command
    for command in (
        CLAUDE,
        CLAUDE_LINE,
        REWIND,
        CHECKPOINTS,
        CONVERSATIONS,
        STATUS,
        LOGIN_HELP,
        EXPORT,
    )
}
_IDENTIFIER = "jupyter_ccapi"
_LINE = re.compile(r"\s*(%%?claude\w*)\s")
_SUFFIXES = {
    "images": (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp", ".tif", ".tiff"),
    "json": (".json",),
    "exports": (".md", ".markdown", ".ipynb"),
}
# What is defined and yet holds no data.
_NO_DATA = (ModuleType, FunctionType, BuiltinFunctionType, type)
_NOTHING = object()

#: A text to put into the line, and what it is, for the icon beside it.
Found = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Names:
    """What the options' values are completed from, beside the user's variables and files."""

    models: Sequence[str] = ()
    conversations: Sequence[str] = ()
    sessions: Sequence[str] = ()
    checkpoints: Sequence[int] = ()


def install(shell: InteractiveShell, names: Callable[[], Names]) -> None:
    """Have a shell complete our magics' options; `names` is asked at each press of the key."""

    @context_matcher(identifier=_IDENTIFIER)  # type: ignore[untyped-decorator, unused-ignore]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        fragment, found = "", list[Found]()
        if context.cursor_line == 0 or not context.full_text.startswith(CLAUDE.name):
            line = context.text_until_cursor
            fragment, found = complete(line, variables_of(shell), names)
        completions = [SimpleCompletion(text, type=kind) for text, kind in found]
        return SimpleMatcherResult(
            completions=completions, suppress=True, matched_fragment=fragment, ordered=True
        )

    remove(shell)
    shell.Completer.custom_matchers.append(matcher)


def remove(shell: InteractiveShell) -> None:
    """Take the completion out of a shell."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != _IDENTIFIER]


def variables_of(shell: InteractiveShell) -> dict[str, Any]:
    """What the user has defined: as `%who` shows it, modules too."""
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in shell.user_ns.items()
        if not name.startswith("_") and hidden.get(name, _NOTHING) is not value
    }


def complete(
    line: str, variables: Mapping[str, Any], names: Callable[[], Names]
) -> tuple[str, list[Found]]:
    """What a line may go on with at its end: the part of it that is replaced, and what by."""
    match = _LINE.match(line)
    command = _COMMANDS.get(match[1]) if match else None
    if match is None or command is None:
        return "", []
    words, fragment = _words(line[match.end() :])
    place = _place(command, words)
    if place.strays and command is CLAUDE_LINE:
        return "", []  # the prompt has begun
    name, equals, value = fragment.partition("=")
    if equals and name in command.options:
        return value, list(_values(command.options[name], value, variables, names))
    found = list[Found]()
    if place.option is not None:
        shape = place.option.shape if place.option.optional and command is CLAUDE_LINE else ".*"
        values = _values(place.option, fragment, variables, names)
        found += [(text, kind) for text, kind in values if re.fullmatch(shape, text)]
    if place.option is None or place.option.optional:
        if not place.strays and (word := _word_of(command)):
            found += _values(word, fragment, variables, names)
        found += _options(command, place, fragment)
    return fragment, found


@dataclass(slots=True)
class _Place:
    """Where in a line the cursor is: behind these options, in the value of `option` if that is not
    None, and behind so many words that belong to none.
    """

    given: list[Option]
    option: Option | None = None
    strays: int = 0


def _place(command: Command, words: Iterable[str]) -> _Place:
    place = _Place([])
    for word in words:
        waits, place.option = place.option, None
        name, equals, _ = word.partition("=")
        option = command.options.get(name) if name.startswith("-") else None
        if option is not None:
            place.given.append(option)
            place.option = option if option.value and not equals else None
        elif waits is None or (
            command is CLAUDE_LINE and waits.optional and not re.fullmatch(waits.shape, word)
        ):
            place.strays += 1
    return place


def _words(line: str) -> tuple[list[str], str]:
    """The words of a line that are complete, and what the cursor is in, with its quote."""
    words, ends = [], [0]
    try:
        for word, end in split(line):
            words.append(word)
            ends.append(end)
    except ValueError:
        pass  # a quote is still open: the cursor is in it
    else:
        if words and not line[-1].isspace():
            words.pop()
            ends.pop()
    return words, line[ends[-1] :].lstrip()


def _options(command: Command, place: _Place, fragment: str) -> Iterator[Found]:
    """The options that were not given yet, by their long names; short ones behind a dash."""
    for option in command.table:
        flags = [flag for flag in option.flags if flag.startswith(fragment or "-")]
        if option.repeats or option not in place.given:
            yield from ((flag, "param") for flag in (flags if fragment else flags[-1:]))


def _word_of(command: Command) -> Option | None:
    """What stands by itself in a command's line, if something does."""
    return next((one for one in command.table if not one.flags[0].startswith("-")), None)


def _values(
    option: Option, fragment: str, variables: Mapping[str, Any], names: Callable[[], Names]
) -> Iterator[Found]:
    """The values of an option that begin with a fragment, quoted where they have to be."""
    quote = fragment[:1] if fragment[:1] in ("'", '"') else ""
    stem = fragment[len(quote) :]
    for text, kind in _candidates(option, stem, variables, names):
        if text.startswith(stem) and text:
            around = quote or ('"' if re.search(r"\s", text) else "")
            # A folder is not the end of the path.
            yield around + text + ("" if text.endswith("/") else around), kind


def _candidates(
    option: Option, stem: str, variables: Mapping[str, Any], names: Callable[[], Names]
) -> Iterator[Found]:
    yield from ((choice, "keyword") for choice in option.choices)
    told = names() if option.completes in Names.__slots__ else Names()
    match option.completes:
        case "models":
            yield from ((model, "text") for model in told.models)
        case "conversations":
            yield from ((name, "text") for name in told.conversations)
        case "sessions":
            yield from ((name, "text") for name in (*told.conversations, *told.sessions))
        case "checkpoints":
            yield from ((str(number), "text") for number in told.checkpoints)
        case "variables" | "images":
            yield from _named(variables, lambda value: not isinstance(value, _NO_DATA))
        case "schemas":
            yield from _named(variables, lambda value: isinstance(value, (dict, type)))
    if option.completes in _SUFFIXES:
        yield from _files(stem, _SUFFIXES[option.completes])


def _named(variables: Mapping[str, Any], fits: Callable[[Any], bool]) -> Iterator[Found]:
    yield from ((name, "instance") for name in sorted(variables) if fits(variables[name]))


def _files(stem: str, suffixes: tuple[str, ...]) -> Iterator[Found]:
    """The files with these suffixes, and the folders, in the folder that a path begins with."""
    folder = stem[: stem.rfind("/") + 1]
    with suppress(OSError, RuntimeError):
        for path in sorted(Path(folder or ".").expanduser().iterdir()):
            if path.name.startswith(".") and not stem.removeprefix(folder).startswith("."):
                continue
            if path.is_dir():
                yield f"{folder}{path.name}/", "path"
            elif path.suffix.lower() in suffixes:
                yield f"{folder}{path.name}", "path"
