"""Folders that tests fill, and look at as plainly as can be."""

import os
from collections.abc import Mapping
from pathlib import Path

#: What is in a folder: by path, a kind (file, program, link) and its bytes.
State = dict[str, tuple[str, bytes]]


def fill(folder: Path, files: Mapping[str, str]) -> None:
    """Write these files, with the folders that they need."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def state(folder: Path) -> State:
    """All files and links in a folder, but for a `.git`."""
    found: State = {}
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and name != ".git"]
        for name in (*names, *links):
            path = Path(root, name)
            place = os.path.relpath(path, folder)
            if path.is_symlink():
                found[place] = "link", os.fsencode(os.readlink(path))  # noqa: PTH115 - as it is
            else:
                program = path.stat().st_mode & 0o100
                found[place] = "program" if program else "file", path.read_bytes()
    return found
