"""What is kept of a conversation's checkpoints: one JSON file each, replaced as a whole.

The file is the truth about a rewind: it is done once the file that says so stands in its place.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from .errors import ClaudeError

#: Where a conversation stands, or where a prompt stands in it: plain JSON, its owner's to read.
Pointer = Mapping[str, Any]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Step:
    """A time in which a turn, or a rewind, changed files: the snapshots ``before`` and ``after``
    it. ``after`` is None where it is not known: the end of that time was not lived to see.
    """

    id: str
    before: str | None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The moment before a prompt, its ``number`` in the conversation counted from 1.

    ``when`` is in Unix seconds, ``words`` the prompt's first ones, ``anchor`` where the prompt
    stands. ``files`` were changed in its turn, with ``insertions`` and ``deletions`` of lines;
    ``edited`` are those that Claude Code's own tools changed, each with a digest of what it held
    at the turn's end (None: it was gone). ``variables`` were set by code that ran in the kernel.
    """

    number: int
    when: float
    words: str
    step: str
    anchor: Pointer | None = None
    files: tuple[str, ...] = ()
    insertions: int = 0
    deletions: int = 0
    edited: Mapping[str, str | None] = field(default_factory=dict)
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewound:
    """A rewind that can be taken back: to before which prompt, of what, and how it was before.

    ``step`` is when it changed files (None: it did not), ``head`` where the conversation stood
    (None: it was not rewound), ``undone`` the checkpoints that it took away. ``copies`` is a folder
    with the files as they were, where they could not be snapshotted.
    """

    id: str
    checkpoint: int
    when: float
    step: str | None = None
    head: Pointer | None = None
    undone: tuple[Checkpoint, ...] = ()
    copies: str | None = None


@dataclass(slots=True)
class Record:
    """All that is kept of one conversation. ``about`` is its owner's, ``head`` where it stands;
    ``last`` names the rewind, or undo, that was done last.
    """

    id: str
    created: float
    folder: str
    about: dict[str, Any] = field(default_factory=dict)
    head: Pointer | None = None
    steps: list[Step] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    rewinds: list[Rewound] = field(default_factory=list)
    last: str | None = None

    def checkpoint(self, number: int) -> Checkpoint | None:
        """The checkpoint of this number, if there is one."""
        return next((one for one in self.checkpoints if one.number == number), None)

    def since(self, step: str | None) -> list[Step]:
        """The step of this id and all after it; none where it is not kept any more."""
        places = [place for place, one in enumerate(self.steps) if one.id == step]
        return self.steps[places[0] :] if places else []

    def copy(self) -> Self:
        """Another one with the same in it, to change without this one."""
        return replace(
            self,
            steps=list(self.steps),
            checkpoints=list(self.checkpoints),
            rewinds=list(self.rewinds),
        )

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read a record; None where there is none. Raises ``ClaudeError`` where it cannot be."""
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            if read.pop("version") != VERSION:
                raise ValueError("it is of another version of jupyter_ccapi")
            read["steps"] = [Step(**one) for one in read["steps"]]
            read["checkpoints"] = [_checkpoint(one) for one in read["checkpoints"]]
            read["rewinds"] = [_rewound(one) for one in read["rewinds"]]
            record = cls(**read)
            record._check()
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            raise ClaudeError(
                f"What is kept of the conversation's checkpoints ({path}) cannot be read: {error}. "
                "Move the file away to go on without them."
            ) from error
        return record

    def _check(self) -> None:
        """Raise ``TypeError`` where something is not what others rely on."""
        texts = [self.id, self.folder, *(one.words for one in self.checkpoints)]
        numbers = [self.created, *(one.number for one in self.checkpoints)]
        pointers = [self.head, *(one.anchor for one in self.checkpoints)]
        pointers += [self.about, *(one.edited for one in self.checkpoints)]
        if not (
            all(isinstance(one, str) for one in texts)
            and all(isinstance(one, int | float) for one in numbers)
            and all(one is None or isinstance(one, dict) for one in pointers)
        ):
            raise TypeError("it is damaged")

    def save(self, path: Path) -> None:
        """Replace the file, durably. Raises ``ClaudeError``."""
        write_whole(path, {"version": VERSION, **_plain(self)})


_DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Have a file hold this as JSON, all of it or as before, also when the machine goes down; only
    its owner may read it. Raises ``ClaudeError``.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(json.dumps(content, default=_plain).encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ClaudeError(f"{path} cannot be written: {error.strerror}.") from error


def _plain(kept: Any) -> dict[str, Any]:
    """A dataclass as a dict. Not ``asdict()``: that copies all that is in it."""
    return {one.name: getattr(kept, one.name) for one in fields(kept)}


def _checkpoint(read: dict[str, Any]) -> Checkpoint:
    lists = {name: tuple(read[name]) for name in ("files", "variables")}
    return Checkpoint(**{**read, **lists})


def _rewound(read: dict[str, Any]) -> Rewound:
    return Rewound(**{**read, "undone": tuple(_checkpoint(one) for one in read["undone"])})
