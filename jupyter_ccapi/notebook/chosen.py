"""The options that a `Claude` is given, sorted and checked."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude.errors import InvalidOption
from jupyter_ccapi.claude.options import PERMISSION_MODES, to_sdk

from .callbacks import at_home
from .command_table import MODES
from .home_loop import HomeLoop
from .schemas import Schema, read_schema
from .settings import ForThisCell, Settings, to_options

# Options by the names that people know from the SDK, and what they are here.
_LASTING = {
    "mode": "mode",
    "model": "model",
    "permission_mode": "permission",
    "system_prompt": "system",
}
#: Those that a single prompt may have, too.
PASSING = {"effort": "effort", "budget_usd": "budget", "max_turns": "max_turns"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options of a `Claude`: those of the conversation, and those of each prompt."""

    lasting: dict[str, Any]
    cell: ForThisCell
    schema: Any

    def passing(
        self, asked: Mapping[str, Any], schema: Schema | None, budget: float
    ) -> ForThisCell:
        """What counts for a prompt that is sent with these; `budget` is what one may cost where
        nothing is said of that.
        """
        given = {ours: asked[name] for name, ours in PASSING.items() if name in asked}
        usd = given.get("budget", self.cell.budget)
        _check_budget(usd)
        return ForThisCell(
            schema=schema.json if schema else None,
            effort=given.get("effort", self.cell.effort),
            budget=(budget if usd is None else usd) or None,
            max_turns=given.get("max_turns", self.cell.max_turns),
        )


def read_chosen(options: Mapping[str, Any], home: HomeLoop, conversation: str) -> Chosen:
    """Sort the options of a `Claude` of this conversation. Raises `InvalidOption`."""
    _check_names(options)
    lasting: dict[str, Any] = {}
    passing: dict[str, Any] = {}
    sdk: dict[str, Any] = {}
    for name, value in options.items():
        if name in PASSING:
            passing[PASSING[name]] = value
        elif name in _LASTING and not (name == "system_prompt" and not isinstance(value, str)):
            lasting[_LASTING[name]] = value
        elif name == "cwd":
            lasting["cwd"] = str(Path(value).resolve())
        elif name == "tools" and isinstance(value, list | tuple):
            lasting["tools"] = tuple(value)
        elif name != "schema":
            sdk[name] = value
    if sdk:
        lasting["sdk"] = at_home(sdk, home, conversation)
    schema = options.get("schema")
    read_wanted(schema)
    _check_budget(passing.get("budget"))
    return Chosen(lasting, ForThisCell(**passing), schema)


def read_wanted(schema: Any) -> Schema | None:
    """Read a schema, if there is one. Raises `InvalidOption`."""
    return None if schema is None else read_schema(schema)


def check(settings: Settings, cell: ForThisCell) -> None:
    """Raise `InvalidOption` for what Claude Code could not be started with."""
    for name, value, known in (
        ("mode", settings.mode, MODES),
        ("permission_mode", settings.permission, (None, *PERMISSION_MODES)),
    ):
        if value not in known:
            names = ", ".join(one for one in known if one is not None)
            raise InvalidOption(name, f"{name} is one of {names}, not {value!r}.")
    turns: Any = cell.max_turns
    if turns is not None and not (isinstance(turns, int) and turns > 0):
        raise InvalidOption("max_turns", f"max_turns is a number from 1 on, not {turns!r}.")
    to_sdk(to_options(settings, cell), cli_path=Path())


def _check_names(options: Mapping[str, Any]) -> None:
    from claude_agent_sdk import ClaudeAgentOptions

    known = {*ClaudeAgentOptions.__dataclass_fields__, *_LASTING, *PASSING, "schema"}
    for name in options:
        if name not in known:
            meant = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {meant[0]}?" if meant else "claude-agent-sdk knows none, either."
            raise InvalidOption(name, f"Claude has no option {name!r}: {hint}")


def _check_budget(usd: Any) -> None:
    if usd is not None and not (isinstance(usd, int | float) and usd >= 0):
        raise InvalidOption("budget_usd", f"budget_usd is 0 (no bound) or more USD, not {usd!r}.")
