"""Ask whoever reads a turn what Claude Code would ask a person: may this tool run?"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .edits import EDITING, proposed, shown_path
from .errors import InvalidOption
from .events import Behavior, Event, PermissionRequest, PermissionResolved, Scope
from .options import Options, is_rule
from .tools import plain_name

if TYPE_CHECKING:
    from claude_agent_sdk import PermissionResult, ToolPermissionContext
    from claude_agent_sdk.types import PermissionRuleValue

# One rule holds for all of Claude Code's tools that change files: any within its folder.
_WITHIN = "**"
_NOBODY = "Nobody could be asked for permission at this time."
_STOPPED = "The turn was stopped before the question was answered."
_REFUSED = "The user does not want this to be done."


@dataclass(frozen=True, slots=True)
class Answer:
    """How a person has answered; ``updated_input`` stands in place of the tool's own."""

    behavior: Behavior
    scope: Scope = "once"
    message: str = ""
    updated_input: dict[str, Any] | None = None


class Allowed:
    """What a person has allowed for a conversation: ``rules`` in Claude Code's words, which its
    next process is given, and the calls themselves, for what no rule says: the same call again is
    not asked about.
    """

    def __init__(self) -> None:
        self.rules: list[str] = []
        self._calls: set[str] = set()

    def add(self, tool: str, given: Mapping[str, Any], rules: Iterable[str]) -> None:
        """Allow this call from now on, and all that these rules say."""
        self._calls.add(json.dumps([tool, given], sort_keys=True))
        # On a command line the CLI would read more than was allowed out of any other.
        self.rules += [rule for rule in rules if is_rule(rule) and rule not in self.rules]

    def over(self, options: Options) -> Options:
        """These options with what was allowed, for the conversation's next process."""
        if not self.rules:
            return options
        rules = [*options.sdk.get("allowed_tools", ()), *self.rules]
        return replace(options, sdk={**options.sdk, "allowed_tools": rules})

    def has(self, tool: str, given: Mapping[str, Any]) -> bool:
        """Whether just this call was allowed."""
        return json.dumps([tool, given], sort_keys=True) in self._calls


class Asking:
    """The permission requests of one process: told in its turn, each answered once. ``allowed`` is
    what its conversation has allowed already.
    """

    def __init__(self) -> None:
        self.allowed = Allowed()
        self._tell: Callable[[Event], None] | None = None
        self._waits: Callable[[bool], None] = lambda waiting: None
        self._folder = Path()
        self._open: dict[str, asyncio.Future[Answer]] = {}

    def begin(
        self, tell: Callable[[Event], None], folder: Path, waits: Callable[[bool], None]
    ) -> None:
        """A turn begins, whose reader is told; files are named as seen from ``folder``. ``waits``
        is called with True when a question is put while no other is open, with False when the
        last open one is settled.
        """
        self._tell, self._folder, self._waits = tell, folder, waits

    def end(self) -> None:
        """The turn is over: what is still open is denied."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_result(Answer("deny", message=_STOPPED))
        self._tell = None

    def answer(self, id: str, answer: Answer) -> None:
        """Answer a request. Raises ``InvalidOption`` where none of that id waits (any more)."""
        waiting = self._open.get(id)
        if waiting is None or waiting.done():
            raise InvalidOption("request_id", f"No permission request {id!r} waits for an answer.")
        waiting.set_result(answer)

    async def ask(
        self, tool: str, given: dict[str, Any], context: "ToolPermissionContext"
    ) -> "PermissionResult":
        """Put a question of the CLI's, and wait for its answer: as long as that takes."""
        from claude_agent_sdk import PermissionResultAllow
        from claude_agent_sdk.types import PermissionUpdate

        tell = self._tell
        if self.allowed.has(tool, given):
            return PermissionResultAllow()
        if tell is None:
            return _denied(_NOBODY)
        rules = _rules(tool, given, context)
        call = context.tool_use_id or f"{tool}-{len(self._open)}"
        diff = await asyncio.to_thread(proposed, tool, given, self._folder)
        if self._tell is not tell:
            return _denied(_STOPPED)  # the turn has ended meanwhile
        name = plain_name(tool) or tool
        title = context.title or _title(name, given, self._folder)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if not self._open:
            self._waits(True)
        self._open[call] = waiting
        answer = Answer("deny", message=_STOPPED)
        try:
            scope = ", ".join(_shown(rule) for rule in rules)
            about = context.description or ""
            tell(PermissionRequest(call, name, given, title, about, diff, scope))
            answer = await waiting
        finally:
            del self._open[call]
            if not self._open and self._tell is tell:
                self._waits(False)
            tell(PermissionResolved(call, answer.behavior, answer.scope, answer.message))
        if answer.behavior == "deny":
            return _denied(answer.message or _REFUSED)
        changed = answer.updated_input
        if answer.scope == "once":
            return PermissionResultAllow(updated_input=changed)
        self.allowed.add(tool, given, map(_words, rules))
        update = PermissionUpdate("addRules", rules=rules, behavior="allow", destination="session")
        return PermissionResultAllow(updated_input=changed, updated_permissions=[update])


def _title(tool: str, given: Mapping[str, Any], folder: Path) -> str:
    path = given.get("file_path") or given.get("notebook_path")
    if tool in EDITING and isinstance(path, str):
        verb = "write" if tool == "Write" else "edit"
        return f"Claude wants to {verb} {shown_path(path, folder)}."
    if tool == "Bash":
        return "Claude wants to run a command."
    return f"Claude wants to use {tool}."


def _denied(message: str) -> "PermissionResult":
    from claude_agent_sdk import PermissionResultDeny

    return PermissionResultDeny(message=message)


def _rules(
    tool: str, given: Mapping[str, Any], context: "ToolPermissionContext"
) -> "list[PermissionRuleValue]":
    """What would be allowed with "for this conversation": what Claude Code itself would suggest,
    else all edits for an edit, the same command for a command, any use for any other tool.
    """
    from claude_agent_sdk.types import PermissionRuleValue

    suggested = [
        rule
        for update in context.suggestions
        if update.type == "addRules" and update.behavior == "allow"
        for rule in update.rules or ()
    ]
    if suggested:
        return suggested
    if tool in EDITING:
        return [PermissionRuleValue("Edit", _WITHIN)]
    command = given.get("command")
    if tool == "Bash" and isinstance(command, str):
        return [PermissionRuleValue("Bash", command)]
    return [PermissionRuleValue(tool, None)]


def _shown(rule: "PermissionRuleValue") -> str:
    """A rule for people: a tool of the caller's by its own name, as a whole."""
    name = plain_name(rule.tool_name)
    return f"{name}(*)" if name else _words(rule)


def _words(rule: "PermissionRuleValue") -> str:
    content = f"({rule.rule_content})" if rule.rule_content is not None else ""
    return f"{rule.tool_name}{content}"
