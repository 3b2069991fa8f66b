"""Words that a person adds to the CLI's command line: which of them are not theirs to set."""

import re
from collections.abc import Sequence

from .errors import InvalidOption

# Which session the CLI holds, how it is spoken to, who is asked, and whether it stays: with these
# the core and the CLI would not understand each other. As of CLI 2.1.330.
_OURS = {
    *("--session-id", "--resume", "--continue", "--fork-session", "--resume-session-at"),
    *("--from-pr", "--teleport", "--no-session-persistence"),
    *("--print", "--input-format", "--output-format", "--replay-user-messages", "--sdk-url"),
    *("--permission-prompt-tool", "--permission-prompts"),
    *("--bg", "--background", "--cloud", "--desktop", "--tmux", "--worktree", "--remote-control"),
    *("--help", "--version"),
}
_SHORT = {
    "-r": "--resume",
    "-c": "--continue",
    "-p": "--print",
    "-w": "--worktree",
    "-h": "--help",
    "-v": "--version",
}


def check_arguments(words: Sequence[str]) -> None:
    """Raise ``InvalidOption`` for words that the CLI cannot be given."""
    if words and not words[0].startswith("-"):
        raise InvalidOption(
            "arguments",
            f"{words[0]!r} cannot be given to Claude Code here: what is added to its command line "
            "begins with an option.",
        )
    for word in words:
        if word == "--" or "\0" in word:
            raise InvalidOption("arguments", f"{word!r} cannot be given to Claude Code here.")
        name = word.partition("=")[0]
        # Options of one letter may stand together, and before a value: -pc, -rID.
        letters = word[1:] if re.match(r"-[A-Za-z]", word) else ""
        found = [f"-{letter}" for letter in letters if f"-{letter}" in _SHORT]
        if name in _OURS or found:
            said = name if name in _OURS else f"{found[0]} ({_SHORT[found[0]]})"
            raise InvalidOption(
                "arguments", f"{said} cannot be given to Claude Code here: that is set already."
            )
