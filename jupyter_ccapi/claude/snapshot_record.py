"""A snapshot as it is kept: git trees of the files, and beside them what git has no place for.

Its id is that of a tree with two entries: ``files``, and ``about``, a blob of JSON. Equal states
of a workspace so have the same id.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from .errors import ClaudeError
from .snapshot_scan import FILE, NotCovered
from .snapshot_store import FOLDER, Entry, SnapshotStore, tree_data

Difference = tuple[str, Entry | None, Entry | None]


@dataclass(frozen=True, slots=True)
class Record:
    """One snapshot: its ``tree``, what it leaves out (why, by path), the ``empty`` folders (without
    covered files), and the ``private`` files (that only their owner may use).
    """

    tree: bytes
    left_out: dict[str, str]
    empty: frozenset[str]
    private: frozenset[str]

    @classmethod
    def read(cls, store: SnapshotStore, snapshot: str) -> Self:
        """The snapshot with this id. Raises ``ClaudeError`` where there is none."""
        if not store.recorded(snapshot):
            raise ClaudeError(
                f"There is no snapshot {snapshot!r} of this folder, or not any more: snapshots "
                "that no conversation needs are dropped after a while."
            )
        top = store.tree(bytes.fromhex(snapshot))
        about = json.loads(store.read(top["about"].id, "blob"))
        return cls(
            top["files"].id,
            dict(about["left_out"]),
            frozenset(about["empty"]),
            frozenset(about["private"]),
        )

    def why_not(self, path: str) -> str | None:
        """Why it does not cover a path: what it leaves out, or what is inside of that."""
        for one in (path, *map(str, PurePosixPath(path).parents)):
            if one in self.left_out:
                return self.left_out[one]
        return None

    def entry(self, store: SnapshotStore, path: str) -> Entry | None:
        """What it has at a path: a file, a link, a folder; None where it has nothing."""
        found = Entry(FOLDER, self.tree)
        for name in path.split("/"):
            if found.mode != FOLDER:
                return None
            inner = store.tree(found.id).get(name)
            if inner is None:
                return None
            found = inner
        return found

    def had_folder(self, store: SnapshotStore, path: str) -> bool:
        """Whether there was a folder of this name, with covered files or without."""
        entry = self.entry(store, path)
        was = entry is not None and entry.mode == FOLDER
        return was or path in self.empty or self.why_not(path) is not None


def write_record(
    store: SnapshotStore,
    tree: bytes,
    left_out: Sequence[NotCovered],
    *,
    empty: Collection[str],
    private: Collection[str],
) -> str:
    """Keep a snapshot of this tree; return its id."""
    about = {
        "left_out": [[one.path, one.why] for one in left_out],
        "empty": sorted(empty),
        "private": sorted(private),
    }
    blob = store.add("blob", json.dumps(about, separators=(",", ":")).encode())
    entries = [("files", Entry(FOLDER, tree)), ("about", Entry(FILE, blob))]
    snapshot = store.add("tree", tree_data(entries)).hex()
    store.record(snapshot)
    return snapshot


def differences(store: SnapshotStore, old: Record, new: Record) -> list[Difference]:
    """The files and links that are not the same in both, by path, as far as both cover them."""
    found = [
        one
        for one in _compare(store, old.tree, new.tree)
        if (one[1] or old.why_not(one[0]) is None) and (one[2] or new.why_not(one[0]) is None)
    ]
    return sorted(found, key=lambda one: one[0])


def _compare(store: SnapshotStore, old: bytes, new: bytes) -> Iterator[Difference]:
    waiting: list[tuple[str, bytes | None, bytes | None]] = [("", old, new)]
    while waiting:
        place, before, after = waiting.pop()
        if before == after:
            continue
        one = store.tree(before) if before else {}
        other = store.tree(after) if after else {}
        for name in one.keys() | other.keys():
            was, is_now = one.get(name), other.get(name)
            if was == is_now:
                continue
            trees = _folder(was), _folder(is_now)
            if trees != (None, None):
                waiting.append((f"{place}{name}/", *trees))
            files = _file(was), _file(is_now)
            if files != (None, None):
                yield place + name, *files


def _folder(entry: Entry | None) -> bytes | None:
    return entry.id if entry and entry.mode == FOLDER else None


def _file(entry: Entry | None) -> Entry | None:
    return entry if entry and entry.mode != FOLDER else None
