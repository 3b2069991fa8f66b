"""The timelines of the conversations that are kept: what of their checkpoints is not told by their
messages alone.

Before and after every turn that may change files, and every later one of its conversation, the
files are kept. A conversation in which no turn may do that needs nothing here until it is rewound.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_ccapi.claude import ClaudeError, Turn
from jupyter_ccapi.claude.errors import RewindRefused
from jupyter_ccapi.claude.record import Pointer, Record
from jupyter_ccapi.claude.rewinding import Rewinder
from jupyter_ccapi.claude.timeline import Timeline, snapshots_of
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.store import NotFound, Store, StoredMessage, StoreError

from .checkpoints import anchor_at, drop_moves, head_of, lend_steps, reconcile

if TYPE_CHECKING:
    from jupyter_ccapi.claude.snapshots import Snapshots

logger = logging.getLogger(__name__)

# Of so many folders it is remembered what was in them, so that they are read anew only where they
# have changed.
_FOLDERS = 4


class StoredTalk:
    """A conversation of the store, as a rewind moves it; see ``rewinding.Talk``."""

    def __init__(self, store: Store, record: Record) -> None:
        self._kept = store.conversations
        self._owner = str(record.about.get("owner", ""))
        self._id = record.id
        self._head = head_of(())

    @property
    def head(self) -> Pointer:
        """Where it stands."""
        return self._head

    def stand(self, stored: Sequence[StoredMessage]) -> None:
        """These are its messages."""
        self._head = head_of(stored)

    async def messages(self) -> Sequence[StoredMessage]:
        """All its messages. Raises ``StoreError``."""
        return await self._kept.messages(self._owner, self._id)

    async def before(self, anchor: Pointer) -> Pointer:
        """Where it stands just before a prompt that is still there."""
        return {"upto": anchor["upto"]}

    async def go(self, head: Pointer) -> None:
        """Have it end there."""
        try:
            await self._kept.show(self._owner, self._id, head["upto"])
        except NotFound as error:
            # It went on elsewhere, or was deleted, before this could be finished.
            logger.warning("The conversation %s was not rewound to its end: %s", self._id, error)
        self._head = head

    async def rewind_own_files(self, anchor: Pointer) -> None:
        """Raise ``RewindRefused``: nothing is left of the process that has changed them."""
        raise RewindRefused("Only files in a folder that can be snapshotted can be rewound here.")


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation's timeline, as true as its messages are, and the conversation itself."""

    timeline: Timeline
    talk: StoredTalk

    @property
    def rewinder(self) -> Rewinder:
        """What rewinds it."""
        return Rewinder(self.timeline, self.talk)

    async def close(self) -> None:
        """Let others have it, and leave nothing behind of one that was never written."""
        if await asyncio.to_thread(self.timeline.path.exists):
            await self.timeline.close()
        else:
            await self.timeline.delete()


class Timelines:
    """The timelines of one server's conversations, in a folder of its own; all methods but ``read``
    are for those who have the conversation for themselves.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        # Those of notebooks are beside it: nobody can go on there with one of ours.
        self._folder = folder / "timelines" / "server"
        self._snapshots = folder / "snapshots"
        self._workspaces: OrderedDict[Path, Snapshots] = OrderedDict()

    async def broken_off(self, id: str) -> bool:
        """Whether a rewind is under way, or was cut off."""
        return await asyncio.to_thread(self._path(id).with_suffix(".rewind").exists)

    async def recover(self, id: str) -> None:
        """Finish or take back a rewind that was cut off. Raises ``APIError``."""
        if not await self.broken_off(id):
            return
        try:
            opened = await self._open(await self._load(id))
            try:
                await opened.rewinder.recover()
            finally:
                await opened.close()
        except ClaudeError as error:
            raise APIError(500, str(error), code="rewind_failed") from error

    async def read(self, owner: str, id: str) -> Record:
        """What is kept of a conversation, as it is told by its messages, too. Raises
        ``ClaudeError``.
        """
        record = await self._load(id, owner)
        await self._reconcile(record)
        return record

    @asynccontextmanager
    async def opened(self, owner: str, id: str) -> AsyncIterator[Opened]:
        """The timeline of a conversation, to rewind it. Raises ``ClaudeError``."""
        opened = await self._open(await self._load(id, owner))
        try:
            opened.talk.stand(await self._reconcile(opened.timeline.record))
            yield opened
        finally:
            await opened.close()

    async def marks(self, id: str, workspace: Path | None) -> bool:
        """Whether there is anything to note of a turn that may change files in ``workspace``, or
        none at all.
        """
        return workspace is not None or await asyncio.to_thread(self._path(id).exists)

    async def begin(
        self, owner: str, id: str, workspace: Path | None, words: str, *, counts: bool
    ) -> "Mark | None":
        """A turn is about to begin, that may change files in ``workspace`` if that is given; None
        where nothing can be kept of it. Unless it ``counts`` it is no checkpoint.
        """
        try:
            record = await self._load(id, owner)
            before, folder = record.folder, str(workspace or record.folder)
            if not folder:
                return None
            opened = await self._open(record, Path(folder))
            try:
                opened.talk.stand(await self._reconcile(opened.timeline.record))
                number = await opened.timeline.begin(words if counts else "")
            except BaseException:
                await opened.close()
                raise
            lend_steps(opened.timeline.record)
            if before not in ("", folder):
                await asyncio.to_thread(self._of(Path(before)).keep, id, ())
        except ClaudeError as error:
            logger.warning("What a turn of %s changes cannot be rewound: %s", id, error)
            return None
        return Mark(opened, number, counts=counts)

    async def note(self, owner: str, id: str) -> None:
        """Keep the numbers that checkpoints have, before one of them goes."""
        try:
            async with self.opened(owner, id) as opened:
                if opened.timeline.record.checkpoints:
                    await opened.timeline.save()
        except ClaudeError as error:
            logger.warning("The checkpoints of %s may get other numbers: %s", id, error)

    async def forget(self, id: str) -> None:
        """Let go of all that is kept of a conversation that is no more."""
        try:
            await self.recover(id)
            await (await self._open(await self._load(id))).timeline.delete()
        except (ClaudeError, APIError) as error:
            logger.warning("What was kept of %s is not all gone: %s", id, error)
            for path in (self._path(id), self._path(id).with_suffix(".rewind")):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def expire(self, older_than: float) -> None:
        """Forget conversations that are no more, of those that nobody has gone on with since this
        moment (Unix seconds).
        """
        old = await asyncio.to_thread(self._older, older_than)
        for id in await self._store.conversations.missing(old):
            await self.forget(id)

    def close(self) -> None:
        """Let go of the files that are open."""
        while self._workspaces:
            self._workspaces.popitem()[1].close()

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    def _older(self, than: float) -> list[str]:
        found: list[str] = []
        for path in self._folder.glob("*.json"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < than:
                    found.append(path.stem)
        return found

    async def _load(self, id: str, owner: str = "") -> Record:
        known = await asyncio.to_thread(Record.load, self._path(id))
        return known or Record(id, time.time(), "", {"owner": owner})

    async def _open(self, record: Record, workspace: Path | None = None) -> Opened:
        """Have the timeline of which this is the record; in ``workspace`` from now on, if that is
        given: then the files of another one are out of reach.
        """
        if workspace is None and record.folder:
            workspace = Path(record.folder)
        timeline = await Timeline.open(
            self._folder, record.id, workspace=workspace, store=self._snapshots, about=record.about
        )
        if workspace is not None:
            timeline.snapshots = self._of(workspace)
            if timeline.record.folder != str(workspace):
                timeline.record.steps.clear()
                timeline.record.folder = str(workspace)
        return Opened(timeline, StoredTalk(self._store, record))

    async def _reconcile(self, record: Record) -> Sequence[StoredMessage]:
        """Have a record be as true as what is stored, which is returned."""
        kept, owner = self._store.conversations, record.about.get("owner", "")
        stored: Sequence[StoredMessage] = []
        try:
            stored = await kept.messages(owner, record.id)
            heads = [one.head["upto"] for one in record.rewinds if one.head is not None]
            if heads and heads[-1] and not await kept.has_message(owner, record.id, heads[-1]):
                drop_moves(record)
        except NotFound:
            logger.debug("The conversation %s is not stored yet", record.id)
        reconcile(record, stored)
        return stored

    def _of(self, folder: Path) -> "Snapshots":
        found = self._workspaces.pop(folder, None) or snapshots_of(self._snapshots, folder)
        self._workspaces[folder] = found
        if len(self._workspaces) > _FOLDERS:
            self._workspaces.popitem(last=False)
        return found


class Mark:
    """What is noted of a turn that is under way: its ``number`` among the checkpoints, None where
    it is none. ``turn`` is set when it begins.
    """

    def __init__(self, opened: Opened, number: int, *, counts: bool) -> None:
        self.number = number if counts else None
        self.turn: Turn | None = None
        self.over = False
        self._opened = opened
        self._place = number

    @property
    def id(self) -> str:
        """The conversation's."""
        return self._opened.timeline.record.id

    async def kept(self, *, before: int, added: int) -> None:
        """The turn's messages were stored, so many of which were new, the prompt after ``before``
        of them.
        """
        try:
            stored = await self._opened.talk.messages()
        except StoreError as error:
            # Whoever looks at it next knows where it stands by what is stored.
            logger.warning("The end of a turn of %s was not noted: %s", self.id, error)
            await self.drop()
            return
        anchor = anchor_at(stored, len(stored) - added + before)
        await self._end(anchor, head_of(stored))

    async def left(self) -> None:
        """Nothing of the turn was stored: its conversation stands where it did."""
        head = self._opened.talk.head
        started = self.turn is not None and self.turn.started
        await self._end({**head, "prompt": None} if started else None, head)

    async def drop(self) -> None:
        """Note nothing more."""
        self.over = True
        await self._opened.close()

    async def _end(self, anchor: Pointer | None, head: Pointer) -> None:
        turn, timeline = self.turn, self._opened.timeline
        try:
            await timeline.end(
                self._place,
                anchor=anchor if self.number is not None else None,
                head=head,
                edited=turn.edited if turn else (),
                variables=turn.variables if turn else (),
            )
        except ClaudeError as error:
            logger.warning("A checkpoint of %s was not kept: %s", self.id, error)
        finally:
            await self.drop()
