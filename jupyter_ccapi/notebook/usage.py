"""The first line of a magic: its options as a table, read, checked, and shown as help.

A value that cannot be used is a `UsageError`: one sentence that names the option, and what it
takes.
"""

import argparse
import difflib
import inspect
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from IPython.core.error import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
Read = Callable[[str], Any]

_WIDTH = 88  # what JupyterLab's help pane and a terminal show without a line break
_FLAG = re.compile(r"--?[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Option:
    """An option, or with a name without dashes in `flags` a word that stands by itself.

    `value` is what help calls its value: "" for a switch, in brackets where it may be left out.
    `read` makes a value of the word, or raises `ValueError` with the end of a sentence that begins
    with the word. `bare` stands for a value that is left out; `shape` is how one looks that is not,
    where other text may follow. `group` is its heading in help, `completes` what its values are
    completed from.
    """

    flags: tuple[str, ...]
    help: str
    value: str = ""
    group: str = ""
    read: Read = str
    bare: Any = None
    shape: str = r"\d+"
    repeats: bool = False
    choices: tuple[str, ...] = ()
    completes: str = ""

    @property
    def name(self) -> str:
        """How a person reads of it: `-m/--model`."""
        return "/".join(self.flags)

    @property
    def optional(self) -> bool:
        """Whether its value may be left out."""
        return self.value.startswith("[")


class Command:
    """A magic with options: `%%claude`, `%claude_rewind`.

    `usage` is how it is written, `tail` what is said of a word that is too many.
    """

    def __init__(self, name: str, *options: Option, usage: str = "", tail: str = "") -> None:
        self.name = name
        self.usage = usage or name
        self.options = {flag: option for option in options for flag in option.flags}
        self.table = options
        self._tail = tail
        self._parser = _parser(options)

    def read(self, line: str) -> dict[str, Any]:
        """Read a whole line. Returns the values of what was given, by the options' long names.

        Raises `UsageError`.
        """
        try:
            words = [word for word, _ in split(line)]
        except ValueError:
            raise self.error(f"a quote in {line.strip()!r} is not closed.") from None
        return self._values(words)

    def read_ahead(self, line: str) -> tuple[dict[str, Any], str]:
        """Read the options that a line begins with; the rest is returned as it was written.

        A value that may be left out counts as one only where it looks like one, or is written
        with `=`; `--` ends the options. Raises `UsageError`.
        """
        words: list[str] = []
        rest = line.strip()
        try:
            while _FLAG.match(rest):
                word, rest = _first(rest)
                words.append(word)
                option = self.options.get(word)
                if option is None or not option.value or not rest:
                    continue
                if not option.optional or re.fullmatch(option.shape, rest.split()[0]):
                    word, rest = _first(rest)
                    words.append(word)
        except ValueError:
            raise self.error(f"a quote in {rest!r} is not closed.") from None
        return self._values(words), re.sub(r"^--(\s+|$)", "", rest)

    def error(self, message: str) -> UsageError:
        """Put the magic's name before a message, and where more is said behind it."""
        return UsageError(f"{self.name}: {message} {self.name}? shows what it understands.")

    def documented(self, function: Function) -> Function:
        """Add the options to a magic's docstring, which is what `%%claude?` shows."""
        told = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = f"{told}\n\n{self.help()}".strip()
        return function

    def help(self) -> str:
        """How it is written, and all options with what they do, under their headings."""
        usage = "\n".join(f"    {line}" for line in self.usage.splitlines())
        return f"Usage:\n{usage}\n\n{self._parser.format_help()}".strip()

    def _values(self, words: list[str]) -> dict[str, Any]:
        for word in words:
            # Before argparse does, which takes -model for -m odel.
            if _FLAG.match(word) and " " not in word and word.partition("=")[0] not in self.options:
                raise self.error(self._no_option(word))
        try:
            given, rest = self._parser.parse_known_args(words)
        except argparse.ArgumentError as error:
            raise self.error(_refusal(error, self.options)) from None
        if rest:
            raise self.error(f"it takes no {rest[0]!r} here{self._tail}.")
        return vars(given)

    def _no_option(self, word: str) -> str:
        name = word.partition("=")[0]
        long = {flag.lstrip("-"): flag for flag in self.options if flag.startswith("--")}
        plain = name.lstrip("-")
        meant = [flag for word, flag in long.items() if len(plain) > 2 and word.startswith(plain)]
        if not meant and (close := difflib.get_close_matches(plain, long)):
            # Two letters that changed places are likelier than one that is too many.
            meant = [long[min(close, key=lambda word: sorted(word) != sorted(plain))]]
        if not meant and (option := self.options.get(word[:2])):
            meant = [f"{word[:2]} {word[2:]}" if option.value else f"{word[:2]} -{word[2:]}"]
        hint = f": did you mean {' or '.join(meant)}?" if meant else "."
        return f"there is no option {name}{hint}"


def one_of(choices: Sequence[str]) -> Read:
    """Read a word that must be one of these."""

    def read(word: str) -> str:
        if word in choices:
            return word
        meant = difflib.get_close_matches(word.lower(), [c.lower() for c in choices], n=1)
        known = {choice.lower(): choice for choice in choices}
        hint = f"; did you mean {known[meant[0]]}?" if meant else ""
        raise ValueError(f"is not one of {', '.join(choices)}{hint}")

    return read


def split(line: str) -> Iterator[tuple[str, int]]:
    """Split a line into words as a shell does, each with where the line goes on after it.

    On Windows a backslash is a letter of a path like any other. Raises `ValueError` for a quote
    that is not closed. (IPython's own `arg_split` leaves the quotes on.)
    """
    source = io.StringIO(line)
    lexer = shlex.shlex(source, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if os.name == "nt":
        lexer.escape = ""
    while (word := lexer.get_token()) is not None:
        yield word, source.tell()


def _first(line: str) -> tuple[str, str]:
    """The first word of a line, and the rest as it was written."""
    word, end = next(split(line))
    return word, line[end:].lstrip()


def _refusal(error: argparse.ArgumentError, options: dict[str, Option]) -> str:
    """What to say of a value that cannot be used, that is missing, or that is too much."""
    option = options.get((error.argument_name or "").split("/")[0])
    if option is None:
        return f"{error}."
    if not option.value:
        return f"{option.name} takes no value."
    if error.message.startswith(_READ):
        return f"{option.name}: {error.message.removeprefix(_READ)}"
    dash = f"one that begins with a dash is written {option.flags[-1]}=…"
    return f"{option.name} needs a value, {option.value} ({dash})."


# Marks a message as one of ours: argparse words its own differently from version to version.
_READ = "\0"


def _reader(option: Option) -> Read:
    def read(word: str) -> Any:
        if option.optional and word == option.bare:
            return word  # argparse has it read, too
        try:
            return option.read(word)
        except ValueError as error:
            end = "" if str(error).endswith("?") else "."
            raise argparse.ArgumentTypeError(f"{_READ}{word!r} {error}{end}") from None

    return read


def _parser(options: Sequence[Option]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        formatter_class=_Help,
        argument_default=argparse.SUPPRESS,
    )
    # Python 3.14 colours help where the output is a terminal; this one becomes a docstring.
    parser.color = False  # type: ignore[attr-defined, unused-ignore]
    groups: dict[str, Any] = {}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        given: dict[str, Any] = {"help": option.help.replace("%", "%%")}
        if not option.value:
            given["action"] = "store_true"
        else:
            given |= {"metavar": option.value.strip("[]"), "type": _reader(option)}
        if option.optional:
            given["nargs"] = "?"
            given["const" if option.flags[0].startswith("-") else "default"] = option.bare
        if option.repeats:
            given["action"] = "append"
        groups[option.group].add_argument(*option.flags, **given)
    return parser


class _Help(argparse.HelpFormatter):
    """Lines of one form on every version of Python: `-m, --model NAME`."""

    def __init__(self, prog: str, **given: Any) -> None:
        super().__init__(prog, **{**given, "max_help_position": 30, "width": _WIDTH})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return f"[{action.metavar}]"
        # Without a short name the long one stands below the long ones.
        indent = "    " if action.option_strings[0].startswith("--") else ""
        names = indent + ", ".join(action.option_strings)
        if action.nargs == 0:
            return names
        return f"{names} [{action.metavar}]" if action.nargs == "?" else f"{names} {action.metavar}"
