"""The options of `%%claude` and its sister magics: a table, and how each value is read.

Help, tab completion and the parser are made of it.
"""

import json
import keyword
import math
import os
import re
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude.options import EFFORTS, PERMISSION_MODES

from .usage import Command, Option, one_of

MODES = ("chat", "agent")

#: `Asked.resume` without an ID: the notebook's last conversation.
LAST = ""
#: `Asked.fork` without a number: the conversation as it is now.
NOW = 0


def text(word: str) -> str:
    """A text with something in it."""
    if not word.strip():
        raise ValueError("is empty")
    return word


def _model(word: str) -> str:
    # It becomes a word of a command line.
    if not re.fullmatch(r"[^\s-]\S*", word):
        raise ValueError("cannot be the name of a model")
    return word


def _count(word: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", word):
        raise ValueError("is not a whole number from 1 on")
    return int(word)


def _checkpoint(word: str) -> int:
    try:
        return _count(word)
    except ValueError:
        raise ValueError("is no number of a checkpoint: %claude_checkpoints lists them") from None


def _usd(word: str) -> float:
    try:
        usd = float(word.removeprefix("$"))
    except ValueError:
        usd = math.nan
    if not 0 < usd < math.inf:
        raise ValueError("is not an amount in USD above 0, such as 0.50")
    return usd


def _variable(word: str) -> str:
    if not word.isidentifier() or keyword.iskeyword(word):
        raise ValueError("cannot be the name of a variable")
    return word


def _tools(word: str) -> tuple[str, ...]:
    # Not at the commas within a rule's own parentheses: Bash(git log:*), mcp__files__read
    tools = tuple(tool.strip() for tool in re.split(r",(?![^()]*\))", word))
    if not all(tools):
        raise ValueError("is not a list of tools such as Read,Grep (--no-tools stands for none)")
    return tools


def _mcp(word: str) -> dict[str, dict[str, Any]]:
    try:
        told = json.loads(_path(word).read_text("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    servers = told.get("mcpServers") if isinstance(told, dict) else None
    if not isinstance(servers, dict):
        raise ValueError('has no object "mcpServers" at its top, as .mcp.json files have')
    for name, server in servers.items():
        if not isinstance(server, dict):
            raise ValueError(f'has no object for its server "{name}"')
    return servers


def _file(word: str) -> Path:
    path = _path(text(word))
    if path.suffix.lower() not in ("", *_SUFFIXES):
        raise ValueError("ends neither in .md nor in .ipynb")
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises where a folder may not be looked into
        raise ValueError("is a folder")
    if not os.path.isdir(path.parent):  # noqa: PTH112
        raise ValueError(f"cannot be written: there is no folder {str(path.parent)!r}")
    return path


def _path(word: str) -> Path:
    try:
        return Path(word).expanduser()
    except RuntimeError:
        raise ValueError("begins with a user who has no home here") from None


_SUFFIXES = (".md", ".markdown", ".ipynb")
# What an ID begins with at least.
_ID = r"[0-9a-fA-F]{8}[0-9a-fA-F-]*"
_STAYS = "For this cell and the next ones of the conversation"
_WHICH = "Which conversation"
_CELL = "For this cell alone"
_EFFORT = f"how hard to think: {', '.join(EFFORTS)}"
_CONVERSATION = (
    Option(
        ("-c", "--conversation"),
        "a conversation of its own by this name; several live side by side",
        "NAME",
        _WHICH,
        text,
        completes="conversations",
    ),
    Option(("--new",), "start it again, with nothing said yet", group=_WHICH),
    Option(
        ("--resume",),
        "take up an earlier one; without ID the last one of this notebook, after its kernel "
        "was restarted",
        "[ID]",
        _WHICH,
        text,
        LAST,
        _ID,
        completes="sessions",
    ),
    Option(
        ("--fork",),
        "go on in a copy of it, as it was just before this prompt was sent; without a number, "
        "as it is now",
        "[CHECKPOINT]",
        _WHICH,
        _checkpoint,
        NOW,
        completes="checkpoints",
    ),
)
_LASTING = (
    Option(
        ("-m", "--model"),
        "opus, sonnet, haiku or a full name",
        "NAME",
        _STAYS,
        _model,
        completes="models",
    ),
    Option(
        ("--mode",),
        "agent: Claude Code in this folder, with its tools; chat: a model that only talks",
        "chat|agent",
        _STAYS,
        one_of(MODES),
        choices=MODES,
    ),
    Option(
        ("-p", "--permission"),
        f"what is done without asking: {', '.join(PERMISSION_MODES)}",
        "MODE",
        _STAYS,
        one_of(PERMISSION_MODES),
        choices=PERMISSION_MODES,
    ),
    Option(
        ("--tools",),
        "these of its tools only; a rule, as 'Bash(git *)' or 'run_python(*)', allows that "
        "without asking, and rules alone take no tool away",
        "A,B",
        _STAYS,
        _tools,
    ),
    Option(("--no-tools",), "none of its tools", group=_STAYS),
    Option(
        ("--mcp",),
        'add the servers of a JSON file, as .mcp.json: {"mcpServers": {…}}',
        "FILE",
        _STAYS,
        _mcp,
        completes="json",
    ),
    Option(
        ("-s", "--system"),
        "a system prompt; in agent mode it is added to Claude Code's own",
        "TEXT",
        _STAYS,
        text,
    ),
    Option(
        ("--share",),
        "publish it on the notebook's server: who may use that can watch it over WebSocket, send "
        "prompts, answer permission requests and rewind it",
        group=_STAYS,
    ),
)
_PASSING = (
    Option(
        ("-i", "--image"),
        "send a picture: a file, a URL, or an expression (a figure, a PIL image, an array, "
        "Out[3]); may be repeated",
        "PICTURE",
        _CELL,
        text,
        repeats=True,
        completes="images",
    ),
    Option(
        ("-v", "--var"),
        "describe a variable: its type, shape, first rows; may be repeated",
        "NAME",
        _CELL,
        _variable,
        repeats=True,
        completes="variables",
    ),
    Option(
        ("-f", "--format"),
        "put the values of {expressions} into the prompt; {{ is a brace",
        group=_CELL,
    ),
    Option(
        ("--schema",),
        "have the answer fulfil a JSON Schema (a dict), or be an object of a pydantic model",
        "EXPR",
        _CELL,
        text,
        completes="schemas",
    ),
    Option(
        ("-o", "--out"),
        "put the answer into this variable: its text, with --schema the object",
        "NAME",
        _CELL,
        _variable,
        completes="variables",
    ),
    Option(("--effort",), _EFFORT, "LEVEL", _CELL, one_of(EFFORTS), choices=EFFORTS),
    Option(("--budget",), "stop when the cell has cost this much", "USD", _CELL, _usd),
    Option(
        ("--max-turns",),
        "stop after so many answers of the model's, each with its tool calls",
        "N",
        _CELL,
        _count,
    ),
    Option(("-q", "--quiet"), "show nothing but what goes wrong", group=_CELL),
)
_ASKING = (*_CONVERSATION, *_LASTING, *_PASSING)
_NAMED = Option(
    ("-c",), "of the conversation of this name", "NAME", "Options", text, completes="conversations"
)

#: The commands, by their magics' names.
CLAUDE = Command(
    "%%claude",
    *_ASKING,
    usage="%%claude [options]\nThe prompt, on as many lines as it takes.",
    tail=": the prompt goes below the %%claude line",
)
CLAUDE_LINE = Command(
    "%claude", *_ASKING, usage="%claude [options] The prompt, to the end of the line."
)
REWIND = Command(
    "%claude_rewind",
    Option(
        ("N",),
        "go back to just before this prompt was sent",
        "[N]",
        "Where to",
        _checkpoint,
        completes="checkpoints",
    ),
    Option(("--undo",), "take the last rewind back", group="Where to"),
    Option(("--dry-run",), "show what would change, and change nothing", group="Options"),
    Option(("--files",), "rewind the files, and not the conversation", group="Options"),
    Option(("--conversation",), "rewind the conversation, and not the files", group="Options"),
    Option(("--force",), "rewind also files that another hand has changed since", group="Options"),
    _NAMED,
    usage="%claude_rewind N [options]\n%claude_rewind --undo [options]",
    tail=": a conversation's name follows -c",
)
CHECKPOINTS = Command("%claude_checkpoints", _NAMED, usage="%claude_checkpoints [-c NAME]")
CONVERSATIONS = Command("%claude_conversations")
STATUS = Command("%claude_status")
LOGIN_HELP = Command("%claude_login_help")
EXPORT = Command(
    "%claude_export",
    Option(
        ("FILE",),
        "where to write it: Markdown for .md, a notebook for .ipynb",
        "[FILE]",
        "Where to",
        _file,
        completes="exports",
    ),
    Option(("--ipynb",), "write a notebook where FILE does not say", group="Options"),
    _NAMED,
    usage="%claude_export [FILE] [options]",
)
