"""The runtime file of a server: by it the kernels on this machine find where to publish their
conversations.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkstemp

import psutil
from jupyter_core.paths import jupyter_runtime_dir

_NAME = "ccapi-server-{}.json"
# A file is written by a process that has begun before; clocks of file systems are coarse.
_COARSE = 2.0


class NoServer(Exception):
    """There is no server to publish to; says what to do."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server on this machine takes conversations, and the secret that lets them in.

    ``url`` is what the routes begin with (``ws://127.0.0.1:8888/base/``), ``cafile`` its
    certificate where it has one, ``root`` the folder that it shows, ``pid`` its process.
    """

    url: str
    secret: str = field(repr=False)
    cafile: str | None
    pid: int
    root: str

    def relay_url(self, id: str) -> str:
        """Where the conversation with this id is published."""
        return f"{self.url.rstrip('/')}/ws/cli/{id}"

    def save(self, folder: Path | None = None) -> Path:
        """Leave it for the kernels, for this user's eyes only; what servers left that were killed
        goes. Raises ``OSError``.
        """
        folder = _folder(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.glob(_NAME.format("*")):
            if (found := _read(path)) is None or not _alive(found.pid, path):
                path.unlink(missing_ok=True)
        path = folder / _NAME.format(self.pid)
        handle, name = mkstemp(dir=folder, prefix=".ccapi-")  # nobody else can read it
        try:
            os.close(handle)
            Path(name).write_text(json.dumps(asdict(self)), "utf-8")
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return path

    def remove(self, folder: Path | None = None) -> None:
        """Take it away again: the server stops."""
        with suppress(OSError):
            (_folder(folder) / _NAME.format(self.pid)).unlink(missing_ok=True)


def find_server(
    environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> ServerAddress:
    """The server that has started this kernel, else the one that was started last. Raises
    ``NoServer``.
    """
    found = sorted(_found(_folder(folder)), key=lambda pair: pair[0])
    # Set by jupyter_client for the kernels that it starts; on Windows it is no process's id.
    parent = environment.get("JPY_PARENT_PID")
    for _, address in found:
        if str(address.pid) == parent:
            return address
    if not found:
        raise NoServer(
            "No Jupyter server with jupyter_ccapi runs here for this user: start `jupyter lab` or "
            "`jupyter ccapi` on this machine. One that listens on a Unix socket alone cannot be "
            "published to."
        )
    return found[-1][1]


def _folder(folder: Path | None) -> Path:
    return folder or Path(jupyter_runtime_dir())


def _found(folder: Path) -> Iterator[tuple[float, ServerAddress]]:
    """Those of servers that run, each with when it was written."""
    for path in folder.glob(_NAME.format("*")):
        address = _read(path)
        if address is not None and _alive(address.pid, path):
            with suppress(OSError):
                yield path.stat().st_mtime, address


def _read(path: Path) -> ServerAddress | None:
    """What is in a file; None where that is not what a server writes."""
    try:
        match json.loads(path.read_text("utf-8")):
            case {
                "url": str(url),
                "secret": str(secret),
                "pid": int(pid),
                "root": str(root),
            } as all:
                cafile = all.get("cafile")
                return ServerAddress(url, secret, cafile and str(cafile), pid, root)
    except (OSError, ValueError):
        pass
    return None


def _alive(pid: int, path: Path) -> bool:
    """Whether the process still runs that wrote this, and not another one with its number."""
    try:
        return psutil.Process(pid).create_time() <= path.stat().st_mtime + _COARSE
    except (psutil.Error, OSError, ValueError, OverflowError):
        return False
