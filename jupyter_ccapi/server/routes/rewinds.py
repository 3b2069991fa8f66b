"""The checkpoints of a conversation, and the way back to them; OpenAI has no such routes."""

from collections.abc import Iterable
from typing import Any

from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.record import Checkpoint
from jupyter_ccapi.claude.rewinding import Wish
from jupyter_ccapi.openai.errors import invalid
from jupyter_ccapi.openai.validation import check, read_json

from .base import BaseHandler, verb


class CheckpointsHandler(BaseHandler):
    """The checkpoints of a conversation."""

    @verb("read")
    async def get(self, id: str) -> None:
        """List them, the first one first."""
        found, can_undo = await self.gateway.rewinds.checkpoints(self.principal.id, id)
        data = [checkpoint_object(one) for one in found]
        self.finish({"object": "list", "data": data, "can_undo": can_undo})


class RewindHandler(BaseHandler):
    """To before one of them. Whoever may not have Claude change files may not rewind them: this is
    for those who may execute.
    """

    @verb("execute")
    async def post(self, id: str) -> None:
        """Rewind, or say what that would do."""
        fields = check(read_json(self.request.body or b"{}"), "rewind")
        files, conversation = (fields.get(name) is not False for name in ("files", "conversation"))
        if not files and not conversation:
            raise invalid("conversation", "Neither files nor conversation are to be rewound.")
        dry_run = bool(fields.get("dry_run"))
        plan = await self.gateway.rewinds.rewind(
            self.principal,
            id,
            fields["checkpoint"],
            Wish(files, conversation, force=bool(fields.get("force"))),
            dry_run=dry_run,
        )
        self.finish(rewind_object(plan, done=not dry_run))


class UndoHandler(BaseHandler):
    """And back."""

    @verb("execute")
    async def post(self, id: str) -> None:
        """Take the last rewind back, or say what that would do."""
        fields = check(read_json(self.request.body or b"{}"), "rewind_undo")
        dry_run, wish = bool(fields.get("dry_run")), Wish(force=bool(fields.get("force")))
        plan = await self.gateway.rewinds.undo(self.principal, id, wish, dry_run=dry_run)
        self.finish(rewind_object(plan, done=not dry_run))


def checkpoint_object(checkpoint: Checkpoint) -> dict[str, Any]:
    """The moment before a prompt, and what its turn has changed."""
    return {
        "object": "conversation.checkpoint",
        "number": checkpoint.number,
        "created_at": int(checkpoint.when),
        "words": checkpoint.words,
        "files": list(checkpoint.files),
        "insertions": checkpoint.insertions,
        "deletions": checkpoint.deletions,
    }


def rewind_object(plan: Plan, *, done: bool) -> dict[str, Any]:
    """What a rewind did, or would do."""
    files = [
        {
            "path": one.path,
            "kind": one.kind,
            "insertions": one.insertions,
            "deletions": one.deletions,
        }
        for one in plan.files
    ]
    return {
        "object": "conversation.rewind",
        "checkpoint": plan.checkpoint,
        "done": done,
        "files": files,
        "diff": plan.diff,
        "kept": [{"path": path, "why": why} for path, why in plan.kept],
        "conflicts": list(plan.conflicts),
        "not_covered": [{"path": one.path, "why": one.why} for one in plan.not_covered],
        "undone": _named(plan.undone),
        "returns": _named(plan.returns),
        "variables": list(plan.variables),
        "note": plan.note,
    }


def _named(checkpoints: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    return [{"number": one.number, "words": one.words} for one in checkpoints]


_ONE = r"/v1/conversations/([\w.-]+)"

default_handlers = [
    (rf"{_ONE}/checkpoints", CheckpointsHandler),
    (rf"{_ONE}/rewind", RewindHandler),
    (rf"{_ONE}/rewind/undo", UndoHandler),
]
