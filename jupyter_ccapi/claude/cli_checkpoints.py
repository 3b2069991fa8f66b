"""The CLI's own checkpoints of files: for a folder that cannot be snapshotted.

The CLI keeps copies of the files that its own tools (Write, Edit, NotebookEdit) change, one
checkpoint for each prompt, by the prompt's uuid. It needs ``enable_file_checkpointing``, and a
session that is persisted (CLI 2.1.330). What commands and kernels change is not in it.
"""

import asyncio
import difflib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from .capabilities import Capabilities
from .errors import ClaudeError, ControlRefused, InvalidOption
from .process import Process

# As many files as a conversation has changed are written for it, in seconds.
_PATIENCE = 30.0
# A folder with more than this is not copied to find out what a rewind would change.
_MOST_BYTES = 256 * 1024 * 1024
_MOST_FILES = 20_000


@dataclass(frozen=True, slots=True)
class FilePreview:
    """What a rewind of files would change: which ``files`` (absolute, sorted), and how many lines
    it would insert into them and delete from them.
    """

    files: tuple[Path, ...]
    insertions: int
    deletions: int


async def preview_files(
    process: Process, checkpoint: str, folder: Path, *, able: Capabilities
) -> FilePreview:
    """Say what a rewind of files to before the prompt with the uuid ``checkpoint`` would change.
    No turn may be running.

    Without ``able.preview_rewind`` the files of ``folder`` are copied, rewound in earnest, compared
    and put back as they were: for a moment others see them rewound, and files elsewhere are put
    back only where this process knows of a tool call that named them. Cancelled, it returns when
    they are back. Raises ``InvalidOption`` where there is no such checkpoint or the folder is too
    large for that, and ``ProcessDied``.
    """
    if able.preview_rewind:
        # `dry_run` is not public: a CLI that does not know it may rewind.
        said = await _about(process, checkpoint, dry_run=True)
        if said.get("canRewind") is not True:
            raise _no_checkpoint(checkpoint, said.get("error"))
        files = sorted(Path(name) for name in said.get("filesChanged") or ())
        return FilePreview(tuple(files), said.get("insertions", 0), said.get("deletions", 0))
    trying = asyncio.create_task(_try(process, checkpoint, folder))
    try:
        await asyncio.wait([trying])
    finally:
        await asyncio.wait([trying])
    return trying.result()


async def rewind_files(process: Process, checkpoint: str) -> None:
    """Put the files that the CLI's tools have changed back to before the prompt with this uuid.
    Raises ``InvalidOption`` where the CLI has no such checkpoint, and ``ProcessDied``.
    """
    await _about(process, checkpoint)


async def _about(process: Process, checkpoint: str, **how: bool) -> dict[str, Any]:
    try:
        return await process.control(
            "rewind_files", patience=_PATIENCE, user_message_id=checkpoint, **how
        )
    except ControlRefused as refusal:
        raise _no_checkpoint(checkpoint, refusal.said) from refusal


def _no_checkpoint(checkpoint: str, said: object) -> InvalidOption:
    return InvalidOption(
        "checkpoint", f"Claude Code cannot rewind the files to {checkpoint!r}: {said}"
    )


async def _try(process: Process, checkpoint: str, folder: Path) -> FilePreview:
    """Rewind, compare, put back."""
    elsewhere = [path for path in _named_by_tools(process) if not path.is_relative_to(folder)]
    kept = Path(mkdtemp(prefix="ccapi-preview-"))
    before = _Copy(folder, elsewhere, kept)
    try:
        await asyncio.to_thread(before.take)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, kept)
        raise
    try:
        await rewind_files(process, checkpoint)
        return await asyncio.to_thread(before.compare)
    finally:
        await asyncio.to_thread(before.put_back)
        await asyncio.to_thread(shutil.rmtree, kept)


def _named_by_tools(process: Process) -> Iterator[Path]:
    """The files that tool calls of the conversation named, as far as it is known."""
    for held in process.held or ():
        for block in held.message.blocks:
            given = block.get("input")
            if block.get("type") == "tool_use" and isinstance(given, dict):
                for name in ("file_path", "notebook_path"):
                    if given.get(name):
                        yield Path(str(given[name]))


class _Copy:
    """The files of ``folder``, and ``more``, as they were when the copy was taken; ``kept`` is an
    empty folder for it.
    """

    def __init__(self, folder: Path, more: Sequence[Path], kept: Path) -> None:
        self._folder = folder
        self._more = more
        self._kept = kept
        self._folders: list[Path] = []
        self._states: dict[Path, tuple[int, ...]] = {}
        self._copies: dict[Path, Path] = {}

    def take(self) -> None:
        """Copy. Raises ``InvalidOption`` where that cannot be."""
        self._folders, files = self._now()
        self._states = {path: _state(path) for path in files}
        size = sum(path.lstat().st_size for path in files)
        if size > _MOST_BYTES or len(files) > _MOST_FILES:
            raise InvalidOption(
                "folder",
                f"This version of Claude Code does not tell what a rewind would change, and "
                f"{str(self._folder)!r} holds too much to try it out: {len(files)} files with "
                f"{size >> 20} MB, where {_MOST_FILES} and {_MOST_BYTES >> 20} MB are the most.",
            )
        for number, path in enumerate(files):
            self._copies[path] = self._kept / str(number)
            try:
                _copy(path, self._copies[path])
            except OSError as error:
                raise InvalidOption(
                    "folder",
                    f"This version of Claude Code does not tell what a rewind would change, and "
                    f"to try it out {str(path)!r} would have to be read: {error.strerror}.",
                ) from error

    def compare(self) -> FilePreview:
        """What has changed since."""
        changed: list[Path] = []
        insertions = deletions = 0
        for path in sorted(self._touched()):
            old, new = _content(self._copies.get(path)), _content(path)
            if old != new:
                changed.append(path)
                inserted, deleted = _count(old or b"", new or b"")
                insertions, deletions = insertions + inserted, deletions + deleted
        return FilePreview(tuple(changed), insertions, deletions)

    def put_back(self) -> None:
        """Have everything as it was. Raises ``ClaudeError`` for what cannot be; the copies stay
        then.
        """
        failures = _each(self._folders, lambda folder: folder.mkdir(exist_ok=True))
        failures += _each(self._touched(), self._put_back)
        failures += _each(
            sorted(set(self._now()[0]) - set(self._folders), reverse=True), Path.rmdir
        )
        if failures:
            raise ClaudeError(
                f"Not all files of {str(self._folder)!r} could be put back as they were before a "
                f"rewind was tried out ({failures[0]}). Copies of them are in {str(self._kept)!r}."
            )

    def _put_back(self, path: Path) -> None:
        copy = self._copies.get(path)
        if copy is None or path.is_symlink() or copy.is_symlink():
            path.unlink(missing_ok=True)
        if copy is not None:
            _copy(copy, path)

    def _touched(self) -> set[Path]:
        """What was changed, made or removed since."""
        now = {path: _state(path) for path in self._now()[1]}
        both = now.keys() | self._states.keys()
        return {path for path in both if now.get(path) != self._states.get(path)}

    def _now(self) -> tuple[list[Path], list[Path]]:
        """All folders below the folder, and all files and links; links are not followed."""
        folders: list[Path] = []
        files = [path for path in self._more if _is_file(path)]
        for root, below, names in os.walk(self._folder):
            paths = [Path(root, name) for name in below]
            folders += [path for path in paths if not path.is_symlink()]
            files += [path for path in paths if path.is_symlink()]
            files += [path for name in names if _is_file(path := Path(root, name))]
        return folders, files


def _each(paths: Iterable[Path], action: Callable[[Path], None]) -> list[OSError]:
    """Do something with each; return what went wrong, which keeps nothing else from being done."""
    failures = []
    for path in paths:
        try:
            action(path)
        except OSError as error:
            failures.append(error)
    return failures


def _copy(path: Path, to: Path) -> None:
    # Not `copy2`: that one copies into a folder, where one stands in the way.
    shutil.copyfile(path, to, follow_symlinks=False)
    shutil.copystat(path, to, follow_symlinks=False)


def _is_file(path: Path) -> bool:
    """Whether it can be copied: a file or a link, and no socket."""
    return path.is_symlink() or path.is_file()


def _state(path: Path) -> tuple[int, ...]:
    """What is another one after every change of the file; nobody can set the last part back."""
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _content(path: Path | None) -> bytes | None:
    """What is in a file, or where a link leads; None where there is none."""
    if path is None or not _is_file(path):
        return None
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def _count(old: bytes, new: bytes) -> tuple[int, int]:
    """How many lines are inserted and deleted."""
    inserted = deleted = 0
    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines())
    for kind, begin, end, start, stop in matcher.get_opcodes():
        if kind != "equal":
            inserted, deleted = inserted + stop - start, deleted + end - begin
    return inserted, deleted
