"""Runs the conversation of a session where its files and its CLI are, and tells what happens."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from jupyter_ccapi.claude import (
    Answer,
    ClaudeError,
    Conversation,
    Event,
    Options,
    PermissionRequest,
    PermissionResolved,
    Turn,
    TurnEnd,
    Watcher,
)
from jupyter_ccapi.claude.errors import BudgetSpent, InvalidOption
from jupyter_ccapi.claude.history import Content, Message
from jupyter_ccapi.claude.options import check_model
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.rewinding import Wish

from .parts import content_of
from .source import Refused
from .speech import Speech, Told

# So many prompts may wait for the turn that runs.
_MOST_WAITING = 16

_SUBTYPES = {
    "completed": "success",
    "tool_calls": "success",
    "interrupted": "interrupted",
    "max_turns": "error_max_turns",
    "max_budget": "error_max_budget_usd",
}


class Host(Watcher):
    """A ``Source`` over a conversation of the core's; it belongs to that one's event loop.

    ``tell`` gets all that happens, whoever sends the prompts; those that are not a client's bear
    ``name`` as their ``client_id``, as do answers that a person gives there. ``options`` says what
    a client's prompt runs with (None: with the conversation's own), ``change`` is told what clients
    set (``model``, ``permission_mode``). ``protected`` are files that a rewind never writes;
    ``end`` is what ends the conversation in place of closing it.
    """

    def __init__(
        self,
        conversation: Conversation,
        tell: Callable[[Told], None],
        *,
        name: str | None = None,
        options: Callable[[], Awaitable[Options]] | None = None,
        change: Callable[[Mapping[str, Any]], None] = lambda settings: None,
        protected: Callable[[], Sequence[Path]] = tuple,
        end: Callable[[], Any] | None = None,
    ) -> None:
        self._conversation = conversation
        self._tell = tell
        self._name = name
        self._options = options
        self._change = change
        self._protected = protected
        self._end = end
        self._turn: Turn | None = None
        self._speech: Speech | None = None
        # Whose prompts those are that wait, and as they were sent.
        self._sent: dict[Turn, tuple[str, Any]] = {}
        self._answers: dict[str, str] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._told_info: dict[str, Any] = {}
        #: Has nothing be told any more.
        self.unwatch = conversation.watchers.add(self)

    @property
    def info(self) -> dict[str, Any]:
        """What the conversation runs with."""
        options = self._conversation.options
        mode = options.sdk.get("permission_mode", "default")
        cwd = str(options.cwd or Path.cwd())
        return {"model": options.model, "cwd": cwd, "permission_mode": mode}

    async def do(self, command: Mapping[str, Any], by: str) -> Told | None:
        """Do what a client asks; see ``Source``."""
        try:
            match command["type"]:
                case "user_message":
                    await self._send(command["content"], by)
                case "permission_response":
                    self._answer(command, by)
                case "interrupt":
                    if self._turn is None:
                        raise Refused("No turn is running.")
                    await self._conversation.interrupt()
                case "set_model":
                    check_model(command["model"])
                    self._conversation.set_model(command["model"])
                    self._change({"model": command["model"]})
                    self._tell_settings()
                case "set_permission_mode":
                    # Also where it is refused in the turn that runs: the next one has it.
                    self._change({"permission_mode": command["mode"]})
                    await self._conversation.set_permission_mode(command["mode"])
                    self._tell_settings()
                case "rewind":
                    return await self._rewind(command)
                case kind:
                    raise Refused(f"{kind} is not for a conversation.")
        except ClaudeError as error:
            raise Refused(str(error)) from error
        return None

    async def close(self) -> None:
        """End the conversation, and its process."""
        if self._end is not None:
            await self._end()
        else:
            await self._conversation.close()
            if self._conversation.timeline is not None:
                await self._conversation.timeline.close()
        self.unwatch()

    def begins(self, turn: Turn, content: Content) -> None:
        """A turn begins, whoever sent its prompt."""
        by, shown = self._sent.pop(turn, (self._name, content))
        self._turn = turn
        self._speech = Speech(self._conversation.options.cwd or Path.cwd())
        self._tell_settings()
        self._tell({"type": "user_message", "content": shown, "client_id": by})

    def hears(self, message: Mapping[str, Any]) -> None:
        """What the CLI says in it."""
        if self._speech is not None:
            for told in self._speech.hear(message):
                self._tell(told)

    def sees(self, event: Event) -> None:
        """What a person is asked in it, and what that was answered."""
        match event:
            case PermissionRequest():
                request = {
                    "tool_name": event.tool,
                    "input": event.input,
                    "title": event.title,
                    "description": event.description,
                    "diff": event.diff,
                    "scope": event.scope,
                }
                told = {"type": "permission_request", "request_id": event.id}
                self._tell({**told, "request": request})
            case PermissionResolved():
                by = self._answers.pop(event.id, self._name)
                if event.behavior == "deny" and self._speech is not None:
                    self._speech.denied.add(event.id)
                self._tell(
                    {
                        "type": "permission_resolved",
                        "request_id": event.id,
                        "behavior": event.behavior,
                        "by": by,
                        "scope": "session" if event.scope == "conversation" else "once",
                        "message": event.message,
                    }
                )

    def ends(self, outcome: TurnEnd | ClaudeError) -> None:
        """It is over."""
        if self._speech is not None:
            for told in self._speech.end():
                self._tell(told)
        self._turn = self._speech = None
        self._answers.clear()
        self._tell(_result(outcome))

    def rewound(self, plan: Plan, *, undo: bool) -> None:
        """It was rewound, or that was taken back."""
        told = {"type": "rewound", "checkpoint": plan.checkpoint, "undo": undo}
        told["conversation"] = bool(plan.returns if undo else plan.undone)
        self._tell({**told, "files": [one.path for one in plan.files]})

    async def _send(self, given: Any, by: str) -> None:
        if len(self._sent) >= _MOST_WAITING:
            raise Refused(f"{_MOST_WAITING} prompts wait already: try again when a turn has ended.")
        conversation = self._conversation
        folder = conversation.options.cwd or Path.cwd()
        content = await asyncio.to_thread(content_of, given, folder)
        # Not before: a client may have changed them meanwhile.
        options = conversation.options if self._options is None else await self._options()
        conversation.options = options
        turn = conversation.send(content)
        self._sent[turn] = (by, given)
        # Nobody else does, and its events are not to pile up.
        reading = asyncio.get_running_loop().create_task(self._read(turn))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)

    async def _read(self, turn: Turn) -> None:
        # Its watchers are told how it failed.
        with suppress(ClaudeError):
            while await turn.read():
                pass
        self._sent.pop(turn, None)

    def _answer(self, command: Mapping[str, Any], by: str) -> None:
        if self._turn is None:
            raise Refused("No turn is running that would ask for permission.")
        id = str(command["request_id"])
        behavior: Literal["allow", "deny"] = command["behavior"]
        scope: Literal["once", "conversation"] = (
            "conversation" if command.get("scope") == "session" else "once"
        )
        answer = Answer(behavior, scope, command.get("message", ""), command.get("updated_input"))
        before = self._answers.get(id)
        self._answers[id] = by
        try:
            self._turn.answer(id, answer)
        except InvalidOption:
            self._answers.pop(id)
            if before is not None:
                self._answers[id] = before
            raise Refused(
                f"No permission request {id!r} waits for an answer: the first answer counts."
            ) from None

    async def _rewind(self, command: Mapping[str, Any]) -> Told | None:
        number = command["checkpoint"]
        files, talk = (command.get(name) is not False for name in ("files", "conversation"))
        wish = Wish(files, talk, bool(command.get("force")), self._protected())
        if not command.get("dry_run"):
            await self._conversation.rewinding(lambda one: one.rewind(number, wish))
            return None
        return _preview(await self._conversation.rewinding(lambda one: one.preview(number, wish)))

    def _tell_settings(self) -> None:
        info = self.info
        if info != self._told_info:
            self._told_info = info
            self._tell({"type": "settings", **info})


def told_before(messages: Sequence[Message], name: str | None) -> list[Told]:
    """What was said before anybody watched, as far as messages tell it."""
    told: list[Told] = []
    for message in messages:
        blocks = message.blocks
        if message.role == "assistant":
            said = {"type": "message", "role": "assistant", "content": blocks}
            told.append({"type": "assistant", "message": said, "parent_tool_use_id": None})
        elif message.is_prompt:
            told.append({"type": "user_message", "content": message.content, "client_id": name})
        else:
            for block in blocks:
                status = "failed" if block.get("is_error") else "completed"
                told.append(
                    {
                        "type": "tool_progress",
                        "tool_use_id": block.get("tool_use_id"),
                        "tool_name": None,
                        "status": status,
                        "content": block.get("content"),
                        "parent_tool_use_id": None,
                    }
                )
    return told


def failed(why: str, subtype: str | None = None) -> Told:
    """The result of a turn that has come to nothing."""
    return {
        "type": "result",
        "subtype": subtype or "error_during_execution",
        "is_error": True,
        "result": "",
        "error": why,
        "stop_reason": None,
        "permission_denials": [],
        **_counted(None),
    }


def _result(outcome: TurnEnd | ClaudeError) -> Told:
    if isinstance(outcome, ClaudeError):
        spent = outcome.spent
        budget = isinstance(outcome, BudgetSpent)
        return failed(str(outcome), "error_max_budget_usd" if budget else None) | _counted(spent)
    return {
        "type": "result",
        "subtype": _SUBTYPES[outcome.reason],
        "is_error": outcome.reason in ("max_turns", "max_budget"),
        "result": outcome.text,
        "stop_reason": outcome.stop_reason,
        "permission_denials": outcome.permission_denials,
        **_counted(outcome),
    }


def _counted(end: TurnEnd | None) -> Told:
    """What a turn has used. The input tokens leave those out that were cached, as the Messages API
    counts them.
    """
    if end is None:
        return {"usage": {}, "cost_usd": 0.0, "duration_ms": 0, "checkpoint": None, "model": None}
    usage = end.usage
    return {
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation_input_tokens": usage.cache_creation_tokens,
        },
        "cost_usd": end.cost_usd,
        "duration_ms": round(end.seconds * 1000),
        "checkpoint": end.checkpoint,
        "model": end.model,
    }


def _preview(plan: Plan) -> Told:
    """What a rewind would do."""
    diffs = _diffs(plan)
    return {
        "type": "rewind_preview",
        "checkpoint": plan.checkpoint,
        "files": [
            {
                "path": one.path,
                "kind": one.kind,
                "insertions": one.insertions,
                "deletions": one.deletions,
                "diff": diffs.get(one.path, ""),
            }
            for one in plan.files
        ],
        "not_covered": [{"path": one.path, "why": one.why} for one in plan.not_covered],
        "kept": [{"path": path, "why": why} for path, why in plan.kept],
        "conflicts": list(plan.conflicts),
        "undone": [{"number": one.number, "words": one.words} for one in plan.undone],
        "note": plan.note,
    }


def _diffs(plan: Plan) -> dict[str, str]:
    """The diff of each file, of those that are shown."""
    begin = "diff --git "
    parts = [begin + part for part in f"\n{plan.diff}".split(f"\n{begin}")[1:]]
    # Git quotes a name that is not plain ASCII; then its place tells which it is.
    by_place = dict(zip((one.path for one in plan.files), parts, strict=False))
    by_name = {
        one.path: part
        for one in plan.files
        for part in parts
        if part.partition("\n")[0].endswith(f" b/{one.path}")
    }
    return {**by_place, **by_name}
