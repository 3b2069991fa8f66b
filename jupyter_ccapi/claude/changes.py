"""What differs between two snapshots of a folder, and what no snapshot has."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class NotCovered:
    """What a snapshot leaves out: a file or a whole folder by its ``path`` in the workspace (with
    slashes), and ``why`` in a few words for people.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file or link that is not the same in two snapshots: its path (relative, with slashes), and
    how many lines were inserted and deleted; none of a ``binary`` one.
    """

    path: str
    kind: Literal["added", "modified", "deleted"]
    insertions: int
    deletions: int
    binary: bool
