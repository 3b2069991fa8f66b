"""From the words of a `%%claude` cell to a conversation, a prompt and what it is sent with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_ccapi.claude.history import Content

from .command import Asked, check_mode
from .desk import DEFAULT, Desk
from .dialog import Dialog
from .errors import NoSuchConversation
from .interpolation import interpolate
from .pictures import image_block
from .schemas import Schema
from .settings import ForThisCell, Settings
from .usage import Command
from .variables import variables_text


def dialog_for(asked: Asked, desk: Desk, model: str | None, command: Command) -> Dialog:
    """The conversation that a cell means: begun, resumed or forked where it says so, and with the
    settings that it gives. `model` is resolved. Raises `ClaudeError`, or `UsageError` for settings
    that it has no use for.
    """
    name = asked.conversation or DEFAULT
    given = _given(asked)
    dialog = desk.dialogs.get(name)
    fresh = Settings(**{"cwd": str(Path.cwd()), "model": model, **given})
    if asked.resume is not None:
        dialog = desk.resume(name, _id(asked.resume, desk), fresh)
    elif asked.new or (dialog is None and asked.fork is None):
        return desk.begin(name, fresh)
    if dialog is None:
        raise NoSuchConversation(
            f"There is no conversation {name!r} to branch off; %%claude --resume takes one up."
        )
    check_mode(asked, asked.mode or dialog.settings.mode, command)
    if asked.fork is not None:
        dialog = desk.copy(dialog, name, asked.fork or None)
    if asked.model is not None:
        given["model"] = model
    if given:
        dialog.change(**given)
    return dialog


def content_of(prompt: str, asked: Asked, shell: InteractiveShell) -> Content:
    """What is sent: the prompt, with the pictures and descriptions of variables that it names.
    Raises `UsageError`.
    """
    text = interpolate(prompt, shell.user_ns) if asked.format else prompt
    blocks: list[dict[str, Any]] = [image_block(image, shell) for image in asked.images]
    if asked.variables:
        told = variables_text(shell, list(asked.variables))
        blocks.append({"type": "text", "text": told})
    return [*blocks, {"type": "text", "text": text}] if blocks else text


def for_this_cell(
    asked: Asked, schema: Schema | None, budget: float, settings: Settings
) -> ForThisCell:
    """What counts for this cell alone; `budget` is what an agent's may cost that names none."""
    default = budget if settings.mode == "agent" else 0.0
    budget = default if asked.budget is None else asked.budget
    return ForThisCell(
        schema=schema.json if schema else None,
        effort=asked.effort,
        budget=budget or None,
        max_turns=asked.max_turns,
    )


def _given(asked: Asked) -> dict[str, Any]:
    """The settings that a cell gives, which stay."""
    given: Mapping[str, Any] = {
        "mode": asked.mode,
        "permission": asked.permission,
        "system": asked.system,
        "tools": asked.tools,
        "mcp": asked.mcp,
    }
    return {name: value for name, value in given.items() if value is not None}


def _id(asked: str, desk: Desk) -> str:
    """The id that was meant: ids are given, and names of conversations."""
    if not asked:
        return asked
    named = [one for one in desk.kept() if one.name == asked]
    return named[0].id if named else asked
