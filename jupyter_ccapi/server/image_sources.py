"""Images that come in the request or lie on this machine: data URLs and local files."""

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

_NO_SYMLINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_SYMLINK
# Opening a FIFO would else wait for somebody who writes into it.
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NO_SYMLINK


class Refused(Exception):
    """An image that is not taken; its text is a whole sentence that says why."""


def too_large(limit: int) -> Refused:
    """The refusal of an image of more than ``limit`` bytes."""
    return Refused(f"The image is over {limit / 2**20:g} MB.")


def from_data_url(url: str, limit: int) -> bytes:
    """The bytes of a base64 data URL (RFC 2397), at most ``limit``. Raises ``Refused``.

    Whatever media type it declares is not looked at; white space and missing padding are borne
    with, as browsers do.
    """
    header, comma, payload = url.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise Refused("A data: URL must be base64: data:image/png;base64,… .")
    if len(payload) > limit * 2:  # line breaks included
        raise too_large(limit)
    payload = "".join(payload.split())
    try:
        data = base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("The base64 of the image's data: URL cannot be decoded.") from None
    if len(data) > limit:
        raise too_large(limit)
    return data


def from_file(url: str, roots: Sequence[Path], limit: int) -> bytes:
    """The bytes of a file inside one of ``roots``, at most ``limit``. Raises ``Refused``.

    ``url`` is a ``file:`` URL or a path; a relative one starts at the first root. Outside the
    roots nothing is told, not even whether there is such a file.
    """
    path = _path_of(url)
    if not roots:
        raise Refused("This server reads no images from its own files: send a data: URL.")
    folders = [root.resolve() for root in roots]
    try:
        real = (folders[0] / path).resolve()
        root = next((folder for folder in folders if real.is_relative_to(folder)), None)
    except (OSError, RuntimeError, ValueError):  # a loop of symlinks, a NUL
        raise Refused("The image's path is not one that can be read.") from None
    if root is None:
        raise Refused("The image lies outside the folders that the server reads images from.")
    try:
        return _read(root, real.relative_to(root).parts, limit)
    except PermissionError:
        raise Refused("The server is not allowed to read this image.") from None
    except OSError:  # among others a folder that has become a symlink since it was resolved
        raise Refused("There is no such image in the server's folders.") from None


def _path_of(url: str) -> str:
    if not url.lower().startswith("file:"):
        return url
    wrong = Refused("A file: URL must be file:///absolute/path.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong from None
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise wrong
    if parts.query or parts.fragment:
        raise Refused("In a file: URL, ? and # in a name must be percent-encoded.")
    return unquote(parts.path)


def _read(root: Path, names: Sequence[str], limit: int) -> bytes:
    """Read ``root/names…`` where no step may be a symlink, not even one made meanwhile."""
    if os.open not in os.supports_dir_fd:
        raise Refused("Images cannot be read from files on this system: send a data: URL.")
    if not names:
        raise Refused("The image's path names a folder.")
    folder = os.open(root, _FOLDER)
    try:
        for name in names[:-1]:
            outer, folder = folder, os.open(name, _FOLDER, dir_fd=folder)
            os.close(outer)
        # To open a device may already do something to it.
        _check_regular(os.stat(names[-1], dir_fd=folder, follow_symlinks=False))
        descriptor = os.open(names[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_regular(os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise too_large(limit)
    return data


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refused("The image's path does not name a regular file.")
