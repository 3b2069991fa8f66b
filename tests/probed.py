"""What the real CLI can do, found out once for all tests, as a server finds it in its folder."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jupyter_ccapi.claude import find_cli
from jupyter_ccapi.claude.probe import CapabilityProbe
from jupyter_ccapi.demo import OfflineModel


def put_into(data_folder: Path) -> None:
    """Put what the probe has found where a server with this Jupyter data folder looks for it."""
    for name, content in _found().items():
        path = data_folder / "ccapi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@cache
def _found() -> dict[str, bytes]:
    with TemporaryDirectory() as name, ThreadPoolExecutor(1) as thread:
        folder = Path(name)
        # Not on the loop of a test.
        thread.submit(asyncio.run, _probe(folder)).result()
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


async def _probe(folder: Path) -> None:
    await CapabilityProbe(OfflineModel, folder)(find_cli())
