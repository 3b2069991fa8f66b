"""What is noted of a rewind that is on its way, so that it can be taken back or finished when the
process that did it is gone.
"""

import json
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from .copies import put_back
from .errors import ClaudeError
from .planning import Plan
from .record import write_whole
from .snapshot_walk import RESTORING
from .timeline import Timeline

# Raised whenever what is noted changes: a journal of another version is not touched.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Noted:
    """A rewind by its ``id``: which ``paths`` it puts from the snapshot ``now`` to ``target``,
    which folders are ``made`` for that (the innermost first), where ``copies`` of the files lie
    where they are not in a snapshot, and whether the conversation ``moves``.
    """

    id: str
    paths: tuple[str, ...]
    now: str | None
    target: str | None
    made: tuple[str, ...]
    copies: str | None
    moves: bool

    @classmethod
    def of(
        cls, id: str, plan: Plan, root: Path | None, copies: Path | None, *, moves: bool
    ) -> Self:
        """What is to be noted of a plan for the files in ``root``."""
        paths = tuple(one.path for one in plan.files)
        above = {str(one) for path in paths for one in PurePosixPath(path).parents}
        made = [one for one in above if root is not None and not (root / one).is_dir()]
        innermost_first = tuple(sorted(made, reverse=True))
        kept = str(copies) if copies else None
        return cls(id, paths, plan.now, plan.target, innermost_first, kept, moves)


class Journal:
    """The journal of a conversation. All methods block."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._path = timeline.journal

    def write(self, noted: Noted) -> None:
        """Note a rewind that is about to be done. Raises ``ClaudeError``."""
        if noted.now is not None:
            # What is gone from the store could not be put back.
            self._timeline.keep([noted.now])
        write_whole(self._path, {"version": _VERSION, **asdict(noted)})

    def read(self) -> Noted | None:
        """The rewind that is on its way, if one is. Raises ``ClaudeError``."""
        try:
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            if noted.pop("version") != _VERSION:
                raise ValueError("it is of another version of jupyter_ccapi")
            return Noted(**noted)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ClaudeError(
                f"A rewind was cut off, and what was noted of it ({self._path}) cannot be read: "
                f"{error}. Move the file away to go on with the files as they are."
            ) from error

    def clear(self) -> None:
        """Nothing is on its way any more."""
        with suppress(OSError):  # then it is seen to again
            self._path.unlink(missing_ok=True)
            self._timeline.sweep()

    def recover(self, noted: Noted) -> None:
        """Put the files back of a rewind that another process has left half done. Raises
        ``ClaudeError`` where that cannot be.
        """
        try:
            self.take_back(noted)
        except (ClaudeError, OSError, ValueError) as error:
            raise ClaudeError(
                f"A rewind was cut off, and its files cannot be put back as they were: {error} "
                f"Mend that, or move {self._path} away to go on with the files as they are."
            ) from error

    def give_up(self, noted: Noted, error: BaseException) -> None:
        """Have all as it was before, where a rewind failed with this error."""
        if self._path.exists():
            try:
                self.take_back(noted)
            except (ClaudeError, OSError) as second:
                # The journal stays: whatever comes next to this conversation tries again.
                raise ClaudeError(
                    f"{error} The files could not be put back as they were ({second}); that is "
                    "tried again with the next prompt or rewind."
                ) from error
        self.clear()

    def take_back(self, noted: Noted) -> None:
        """Put the files back of a rewind that was not done; one that somebody has changed since
        stays as it is. Raises ``ClaudeError`` and ``OSError``.
        """
        if noted.copies is not None:
            put_back(Path(noted.copies))
        snapshots, root = self._timeline.snapshots, self._timeline.workspace
        if noted.now is None or noted.target is None or snapshots is None or root is None:
            return
        for path in noted.paths:
            _remove_parts((root / path).parent)
        other = {one.path for one in snapshots.changes(snapshots.take(), noted.target)}
        ours = [path for path in noted.paths if path not in other]
        possible = [path for path in ours if _has_room(root, path, ours)]
        snapshots.restore(noted.now, possible, expected=None)
        for path in noted.made:
            with suppress(OSError):  # something is in it
                (root / path).rmdir()


def _remove_parts(folder: Path) -> None:
    """Remove what a process that is gone had begun to write."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(RESTORING):
                path.unlink()


def _has_room(root: Path, path: str, ours: Collection[str]) -> bool:
    """Whether nobody else has put a folder in a file's place since, or a file in its folder's."""
    for above in [str(one) for one in PurePosixPath(path).parents][:-1]:
        place = root / above
        if above not in ours and (place.is_symlink() or place.is_file()):
            return False
    files = (
        Path(folder, name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root / path)
        for name in names
    )
    return (root / path).is_symlink() or all(name in ours for name in files)
