"""What all measurements share: one offline model in a process of its own, folders, sizes."""

import http.client
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from jupyter_ccapi.demo import OfflineModel
from tests.benchmarks.measuring import NotMeasured
from tests.servers import REPOSITORY

#: The model that every request names, as clients of the API do.
MODEL = "sonnet"


class ModelProcess(OfflineModel):
    """The offline model in a process of its own, so that its work is nobody's who is measured.

    Of the model's methods only `environment()` and `release()` work from here.
    """

    _process: "subprocess.Popen[str] | None" = None

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_ccapi.demo"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._url = self._process.stdout.readline().strip()
        if not self._url:
            raise NotMeasured("the offline model did not start")
        return self

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def release(self) -> int:
        """Let every held answer go on; return how many there were."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request("POST", "/release")
            return int(json.loads(connection.getresponse().read())["released"])
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Enough for a p95 where a sample is cheap; about 3 minutes in all."""

    turn_rounds: int = 10
    turns: int = 10
    beginning_rounds: int = 10
    cold: int = 1
    never_seen: int = 2
    seen: int = 4
    load_rounds: int = 3
    load_seconds: float = 3.0
    long_life: int = 500
    interrupts: int = 40
    snapshot_turns: int = 40
    audience_seconds: float = 10.0


#: Only to see that everything runs.
QUICK = Sizes(
    turn_rounds=2,
    turns=5,
    beginning_rounds=2,
    cold=1,
    never_seen=1,
    seen=2,
    load_rounds=1,
    load_seconds=1.5,
    long_life=40,
    interrupts=5,
    snapshot_turns=3,
    audience_seconds=2.0,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a run takes place."""

    folder: Path
    model: OfflineModel
    sizes: Sizes

    def home(self, name: str) -> Path:
        """A HOME of its own for a CLI or a server, with a folder `project` to work in."""
        home = self.folder / name
        (home / "project").mkdir(parents=True, exist_ok=True)
        return home


def end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """End a process, by force if it takes longer than five seconds."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
