"""Copies of a few files, where a whole folder cannot be snapshotted."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

_MANIFEST = "files.json"
# What they were like when a rewind was done with them.
_AFTER = "after.json"


def digest_of(path: Path) -> str | None:
    """What stands for a file's content; None where there is no file."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return None


def copy_to(folder: Path, files: Iterable[Path]) -> None:
    """Copy these files into a new folder of its owner's, those that there are. Raises
    ``OSError``.
    """
    folder.mkdir(parents=True, mode=0o700)
    names: dict[str, str | None] = {}
    for number, path in enumerate(files):
        names[str(path)] = None
        if path.is_file():
            shutil.copy2(path, folder / str(number))
            names[str(path)] = str(number)
    (folder / _MANIFEST).write_text(json.dumps(names))


def copied(folder: Path) -> list[Path]:
    """The files that were copied, also those that there were none of. Raises ``OSError``."""
    return [Path(name) for name in json.loads((folder / _MANIFEST).read_text())]


def put_back(folder: Path) -> None:
    """Have all files as they were when they were copied. Raises ``OSError``."""
    for name, copy in json.loads((folder / _MANIFEST).read_text()).items():
        path = Path(name)
        if copy is None:
            path.unlink(missing_ok=True)
            continue
        part = path.with_name(f".{path.name}.ccapi-part")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / copy, part)
        part.replace(path)


def note_after(folder: Path) -> None:
    """Note what the files are now, to tell later who has changed them. Raises ``OSError``."""
    digests = {str(path): digest_of(path) for path in copied(folder)}
    (folder / _AFTER).write_text(json.dumps(digests))


def changed_after(folder: Path) -> list[str]:
    """The files that are no more what was noted. Raises ``OSError``."""
    digests = json.loads((folder / _AFTER).read_text())
    return [name for name, digest in digests.items() if digest_of(Path(name)) != digest]
