"""From what is in a folder to a snapshot of it: read what has changed, and nothing else."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .snapshot_record import write_record
from .snapshot_scan import (
    LINK,
    Folder,
    Known,
    NotCovered,
    Seen,
    SnapshotLimits,
    git_mode,
    known,
    larger_than,
    read_file,
)
from .snapshot_store import FOLDER, Entry, SnapshotStore, Stamp, tree_data

# Where a folder is known to hold covered files, and not under which id.
_SOME = b""


class Index:
    """What is remembered of a workspace's files, so that they need not be read again.

    It is in the store too, for the next process; the store's stamp tells whether another one has
    written there since.
    """

    def __init__(self) -> None:
        self.folders: Mapping[str, Folder] = {}
        self.stamp: Stamp | None = None

    def refresh(self, store: SnapshotStore) -> None:
        """Read it anew where another process has changed it."""
        stamp = store.stamp()
        if stamp == self.stamp:
            return
        self.folders = {
            place: Folder({name: _known(row) for name, row in rows.items()})
            for place, rows in store.folders().items()
        }
        for place, folder in self.folders.items():
            if folder.files:
                for one in (place, *_above(place)):
                    if one in self.folders:
                        self.folders[one].tree = _SOME
        self.stamp = stamp

    def blobs(self) -> Iterator[bytes]:
        """What its files hold."""
        for folder in self.folders.values():
            yield from (one.id for one in folder.files.values())


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was written, and what is to be remembered from now on."""

    snapshot: str
    folders: Mapping[str, Folder]
    stamp: Stamp


def write_snapshot(
    root: Path, seen: Seen, index: Index, store: SnapshotStore, limits: SnapshotLimits
) -> Taken:
    """Read what has changed, and write it and the snapshot; in a transaction that writes, and
    with an index of which no object was dropped since.
    """
    left_out = list(seen.left_out)
    changed: dict[str, Any] = {}
    for place, folder in reversed(seen.folders.items()):
        was = index.folders.get(place)
        if folder.pending or not folder.same:
            left_out += _read(f"{root}/{place}", place, folder, store, limits)
            changed[place] = {name: _row(one) for name, one in folder.files.items()}
        folder.subtrees = {
            name: inner.tree
            for name in folder.folders
            if (inner := seen.folders.get(f"{place}{name}/")) and inner.tree
        }
        if was and was.tree and place not in changed and folder.subtrees == was.subtrees:
            folder.tree = was.tree
        else:
            folder.tree = _write_tree(folder, store, top=not place)
    tree = seen.folders[""].tree
    assert tree is not None
    snapshot = write_record(
        store,
        tree,
        sorted(left_out, key=lambda one: one.path),
        empty=[place[:-1] for place, folder in seen.folders.items() if folder.tree is None],
        private=list(_private(root, seen)),
    )
    gone = index.folders.keys() - seen.folders.keys()
    stamp = store.write_folders(changed, gone) if changed or gone else store.stamp()
    return Taken(snapshot, seen.folders, stamp)


def _read(
    path: str, place: str, folder: Folder, store: SnapshotStore, limits: SnapshotLimits
) -> Iterator[NotCovered]:
    """Take up a folder's files that are pending; say which of them cannot be."""
    for name, status in folder.pending.items():
        try:
            if git_mode(status.st_mode) == LINK:
                # Not `Path.readlink()`, which tidies up what the link says.
                link = os.readlink(path + name)  # noqa: PTH115
                folder.files[name] = known(status, store.add("blob", os.fsencode(link)))
                continue
            found = read_file(path + name, limits.file_bytes)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield NotCovered(place + name, f"cannot be read ({error.strerror})")
            continue
        if found is None:
            yield NotCovered(place + name, larger_than(limits))
            continue
        content, after, steady = found
        folder.files[name] = known(after, store.add("blob", content), steady=steady)


def _write_tree(folder: Folder, store: SnapshotStore, *, top: bool) -> bytes | None:
    entries = [(name, Entry(one.mode, one.id)) for name, one in folder.files.items()]
    entries += [(name, Entry(FOLDER, tree)) for name, tree in folder.subtrees.items()]
    return store.add("tree", tree_data(entries)) if entries or top else None


def _private(root: Path, seen: Seen) -> Iterator[str]:
    """The files that only their owner may use; none where that is so of the whole workspace."""
    if root.stat().st_mode & 0o077:
        for place, folder in seen.folders.items():
            yield from (place + name for name, one in folder.files.items() if one.private)


def _above(place: str) -> Iterator[str]:
    """The places of the folders above."""
    while place:
        place = place[: place.rfind("/", 0, -1) + 1]
        yield place


def _row(one: Known) -> list[Any]:
    return [one.mode, one.id.hex(), one.private, one.signature]


def _known(row: list[Any]) -> Known:
    mode, name, private, signature = row
    told = tuple(signature) if signature else None
    return Known(mode, bytes.fromhex(name), private, told)
