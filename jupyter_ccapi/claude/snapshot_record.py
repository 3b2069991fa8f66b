"""A snapshot as it is kept: a commit of the files, whose message says what git has no place for."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple, Self

import pygit2
from pygit2.enums import DiffOption

from .errors import ClaudeError
from .snapshot_repository import commit

#: Git's modes.
FILE, PROGRAM, LINK, FOLDER = 0o100644, 0o100755, 0o120000, 0o40000


class Entry(NamedTuple):
    """What a tree holds under a name: git's mode, and the id of a blob or of a tree."""

    mode: int
    id: pygit2.Oid


@dataclass(frozen=True, slots=True)
class Record:
    """One snapshot: its ``tree``, what it leaves out (why, by path), the ``empty`` folders (without
    covered files), the ``private`` files (that only their owner may use), and the ``bytes`` of all.
    """

    tree: pygit2.Tree
    left_out: Mapping[str, str]
    empty: frozenset[str]
    private: frozenset[str]
    bytes: int

    @classmethod
    def read(cls, repository: pygit2.Repository, snapshot: str) -> Self:
        """The snapshot with this id. Raises ``ClaudeError`` where there is none."""
        found = commit(repository, snapshot)
        if found is None:
            raise ClaudeError(
                f"There is no snapshot {snapshot!r} of this folder, or not any more: snapshots "
                "that no conversation needs are dropped after a while."
            )
        about = json.loads(found.message)
        empty, private = frozenset(about["empty"]), frozenset(about["private"])
        return cls(found.tree, about["left_out"], empty, private, about["bytes"])

    def message(self) -> str:
        """All but the tree, as JSON."""
        about = {
            "left_out": self.left_out,
            "empty": sorted(self.empty),
            "private": sorted(self.private),
            "bytes": self.bytes,
        }
        return json.dumps(about, separators=(",", ":"), sort_keys=True)

    def why_not(self, path: str) -> str | None:
        """Why it does not cover a path: what it leaves out, or what is inside of that."""
        return why_not(self.left_out, path)

    def entry(self, path: str) -> Entry | None:
        """What it has at a path: a file, a link, a folder; None where it has nothing."""
        try:
            found = self.tree[path]
        except KeyError:
            return None
        return Entry(int(found.filemode), found.id)

    def file(self, path: str) -> Entry | None:
        """The file or link that it has at a path."""
        found = self.entry(path)
        return found if found and found.mode != FOLDER else None

    def had_folder(self, path: str) -> bool:
        """Whether there was a folder of this name, with covered files or without."""
        entry = self.entry(path)
        was = entry is not None and entry.mode == FOLDER
        return was or path in self.empty or self.why_not(path) is not None


def read_blob(repository: pygit2.Repository, name: pygit2.Oid) -> bytes:
    """What a file holds. Raises ``ClaudeError`` where that is gone or damaged."""
    try:
        found = repository[name]
        assert isinstance(found, pygit2.Blob)
        return found.data
    except (KeyError, pygit2.GitError) as error:
        raise ClaudeError(
            f"A part of the snapshots in {repository.path!r} is missing or damaged (blob {name}): "
            "what is in it cannot be brought back."
        ) from error


def why_not(left_out: Mapping[str, str], path: str) -> str | None:
    """What is said of a path that is left out, or is in a folder that is."""
    if left_out:
        for one in (path, *map(str, PurePosixPath(path).parents)):
            if one in left_out:
                return left_out[one]
    return None


@dataclass(frozen=True, slots=True)
class Difference:
    """A file or link that is not the same in two snapshots; ``number`` is its place in both diffs,
    of which ``heads`` takes every file for a binary one.
    """

    path: str
    delta: pygit2.DiffDelta
    number: int
    whole: pygit2.Diff
    heads: pygit2.Diff

    def patch(self) -> pygit2.Patch:
        """How it differs."""
        found = self.whole[self.number]
        assert found is not None
        return found

    def head(self) -> bytes:
        """The lines before what differs, as git shows them."""
        found = self.heads[self.number]
        assert found is not None
        return found.data[: found.data.rfind(b"Binary files ")]


def differences(old: Record, new: Record) -> list[Difference]:
    """The files and links that are not the same in both, by path, as far as both cover them."""
    flags = DiffOption.INCLUDE_TYPECHANGE
    whole = old.tree.diff_to_tree(new.tree, flags=flags)
    heads = old.tree.diff_to_tree(new.tree, flags=flags | DiffOption.FORCE_BINARY)
    found = []
    for number, delta in enumerate(whole.deltas):
        path = os.fsdecode(delta.new_file.raw_path)
        gone, made = delta.status_char() == "D", delta.status_char() == "A"
        if not (gone and new.why_not(path)) and not (made and old.why_not(path)):
            found.append(Difference(path, delta, number, whole, heads))
    return sorted(found, key=lambda one: one.path)
