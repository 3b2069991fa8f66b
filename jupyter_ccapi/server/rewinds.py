"""Rewinding the conversations that are kept, with the files that their agents have changed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from jupyter_ccapi.claude import ClaudeError
from jupyter_ccapi.claude.errors import (
    CannotSnapshot,
    ChangedSince,
    ConversationInUse,
    RewindRefused,
)
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.record import Checkpoint
from jupyter_ccapi.claude.rewinding import Wish
from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.openai.errors import APIError, invalid

from .agent import AgentRules
from .principal import Principal
from .threads import Threads
from .timelines import Opened


class Rewinds:
    """The checkpoints of one server's conversations. Its methods raise ``APIError`` 404 for a
    conversation that is not there, and wait for a turn under way before they change anything.
    """

    def __init__(self, threads: Threads, rules: AgentRules) -> None:
        self._threads = threads
        self._rules = rules

    async def checkpoints(self, owner: str, id: str) -> tuple[list[Checkpoint], bool]:
        """The checkpoints of a conversation, and whether its last rewind can be taken back."""
        await self._threads.get(owner, id)
        with _explained():
            record = await self._threads.timelines.read(owner, id)
        return record.checkpoints, bool(record.rewinds)

    async def rewind(
        self, who: Principal, id: str, checkpoint: int, wish: Wish, *, dry_run: bool
    ) -> Plan:
        """Rewind to before a prompt; with ``dry_run`` only say what that would do. Raises
        ``APIError`` 400 for a number that is none, 403 for files that are not to be rewound, and
        ``RewindRefused`` where it cannot be done, and nothing was.
        """
        async with self._opened(who.id, id) as opened:
            timeline = opened.timeline
            _check_number(timeline, checkpoint)
            if wish.files and timeline.snapshots is not None:
                self._check_files(timeline, who)
                await _check_folder(timeline)
            elif not wish.conversation:
                raise RewindRefused("There are no files to rewind: no agent has changed any here.")
            act = opened.rewinder.preview if dry_run else opened.rewinder.rewind
            return await act(checkpoint, wish)

    async def undo(self, who: Principal, id: str, wish: Wish, *, dry_run: bool) -> Plan:
        """Take the last rewind back. Raises as ``rewind`` does."""
        async with self._opened(who.id, id) as opened:
            rewinds = opened.timeline.record.rewinds
            if rewinds and rewinds[-1].step is not None:
                self._check_files(opened.timeline, who)
            act = opened.rewinder.preview_undo if dry_run else opened.rewinder.undo
            return await act(wish)

    @asynccontextmanager
    async def _opened(self, owner: str, id: str) -> AsyncIterator[Opened]:
        await self._threads.find(owner, id)
        async with self._threads.hold(id):
            with _explained():
                async with self._threads.timelines.opened(owner, id) as opened:
                    yield opened

    def _check_files(self, timeline: Timeline, who: Principal) -> None:
        self._rules.check_rewind(Path(timeline.record.folder), who.key)


def _check_number(timeline: Timeline, number: int) -> None:
    if timeline.record.checkpoint(number) is None:
        numbers = [one.number for one in timeline.checkpoints]
        has = f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
        said = f"There is no checkpoint {number} in this conversation; {has}."
        raise invalid("checkpoint", said)


async def _check_folder(timeline: Timeline) -> None:
    """Raise ``RewindRefused`` where files cannot be rewound: Claude Code's own checkpoints of them
    went with its processes.
    """
    if await timeline.refused():
        raise RewindRefused(
            f"The files cannot be rewound: {timeline.refusal} --conversation rewinds the "
            "conversation alone."
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Tell what the core could not do apart from what went wrong in a turn."""
    try:
        yield
    except ChangedSince as error:
        raise RewindRefused(str(error), conflicts=error.paths) from error
    except (RewindRefused, CannotSnapshot, ConversationInUse):
        raise
    except ClaudeError as error:
        raise APIError(500, str(error), code="rewind_failed") from error
