"""What a person types on the first line of `%%claude` and its sister magics, read and checked.

Everything that can be known to be wrong from the line alone is a `UsageError` here; what a name
stands for is looked up by whoever is handed the values.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude.options import Mode

from .command_table import CHECKPOINTS, CLAUDE, CLAUDE_LINE, EXPORT, REWIND
from .usage import Command


@dataclass(frozen=True, slots=True)
class Asked:
    """A `%%claude` line. What was not given is None, false or empty.

    `tools` () is `--no-tools`. `mcp` are the servers of the file, by name. `images`, `variables`,
    `schema` are as they were typed.
    """

    model: str | None = None
    conversation: str | None = None
    new: bool = False
    resume: str | None = None
    fork: int | None = None
    mode: Mode | None = None
    permission: str | None = None
    tools: tuple[str, ...] | None = None
    mcp: dict[str, dict[str, Any]] | None = None
    images: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    format: bool = False
    system: str | None = None
    share: bool = False
    schema: str | None = None
    out: str | None = None
    effort: str | None = None
    budget: float | None = None
    max_turns: int | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class RewindAsked:
    """A `%claude_rewind` line. `checkpoint` is None with `undo` alone; `files` and `conversation`
    say what is rewound: at least one of them is true.
    """

    checkpoint: int | None = None
    files: bool = True
    conversation: bool = True
    dry_run: bool = False
    force: bool = False
    undo: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ExportAsked:
    """A `%claude_export` line. `file` is None where none was named; it has its suffix."""

    file: Path | None = None
    notebook: bool = False
    name: str | None = None


def read_claude(line: str) -> Asked:
    """Read the first line of a `%%claude` cell. Raises `UsageError`."""
    return _asked(CLAUDE, CLAUDE.read(line))


def split_line(line: str) -> tuple[Asked, str]:
    """Read a `%claude` line: options, if it begins with any, and the prompt behind them, as it was
    written. Raises `UsageError`.
    """
    given, prompt = CLAUDE_LINE.read_ahead(line)
    return _asked(CLAUDE_LINE, given), prompt


def check_mode(asked: Asked, mode: Mode, command: Command = CLAUDE) -> None:
    """Raise `UsageError` for options that a conversation of this mode has no use for."""
    if mode != "chat":
        return
    for option, given in (
        ("-p/--permission", asked.permission),
        ("--tools", asked.tools),
        ("--mcp", asked.mcp),
    ):
        if given:
            raise command.error(f"{option} is for --mode agent: a chat has no tools.")


def read_rewind(line: str) -> RewindAsked:
    """Read a `%claude_rewind` line. Raises `UsageError`."""
    given = REWIND.read(line)
    checkpoint, undo = given.get("N"), "undo" in given
    if undo and checkpoint is not None:
        raise REWIND.error(f"--undo takes no number, and here is {checkpoint}.")
    if undo and ("files" in given or "conversation" in given):
        raise REWIND.error("--undo takes back what the last rewind did, --files or not.")
    if not undo and checkpoint is None:
        raise REWIND.error("it needs the number of a checkpoint: %claude_checkpoints lists them.")
    both = ("files" in given) == ("conversation" in given)
    return RewindAsked(
        checkpoint,
        files=both or "files" in given,
        conversation=both or "conversation" in given,
        dry_run="dry_run" in given,
        force="force" in given,
        undo=undo,
        name=given.get("c"),
    )


def read_checkpoints(line: str) -> str | None:
    """Read a `%claude_checkpoints` line: whose they are. Raises `UsageError`."""
    name: str | None = CHECKPOINTS.read(line).get("c")
    return name


def read_export(line: str) -> ExportAsked:
    """Read a `%claude_export` line. Raises `UsageError`."""
    given = EXPORT.read(line)
    file, name = given.get("FILE"), given.get("c")
    if file is None:
        return ExportAsked(None, "ipynb" in given, name)
    if not file.suffix:
        file = file.with_suffix(".ipynb" if "ipynb" in given else ".md")
    notebook = file.suffix.lower() == ".ipynb"
    if "ipynb" in given and not notebook:
        raise EXPORT.error(f"--ipynb writes a notebook, and {file.name} names Markdown.")
    return ExportAsked(file, notebook, name)


def read_nothing(command: Command, line: str) -> None:
    """Read the line of a magic that takes no options. Raises `UsageError`."""
    command.read(line)


def _asked(command: Command, given: dict[str, Any]) -> Asked:
    """Put the values together, and check what does not go together."""
    for one, others in (("new", ("resume", "fork")), ("tools", ("no_tools",))):
        for other in others:
            if one in given and other in given:
                flags = f"--{one} and --{other.replace('_', '-')}"
                raise command.error(f"{flags} do not go together.")
    asked = Asked(
        images=tuple(given.pop("image", ())),
        variables=tuple(given.pop("var", ())),
        tools=() if given.pop("no_tools", False) else given.pop("tools", None),
        **given,
    )
    if asked.mode is not None:
        check_mode(asked, asked.mode, command)
    return asked
