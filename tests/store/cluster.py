"""A PostgreSQL of the tests' own: a cluster in a folder, reached by a socket in it alone."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL server. ``folder`` has its data and its socket."""

    programs: Path
    folder: Path

    def new_database(self) -> str:
        """The URL of a database that is empty: there is one, emptied each time."""
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return f"postgresql+asyncpg://{_user()}@/postgres?host={self.folder}"

    def execute(self, sql: str) -> str:
        """What a statement gives in the database."""
        host = ("--host", str(self.folder))
        return self._run("psql", *host, "-q", "--tuples-only", "postgres", "-c", sql).strip()

    def start(self) -> None:
        """Start the server and wait until it can be used."""
        options = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Stop the server as if it crashed."""
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.folder / "data"), *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        # The output goes to a file: a server that was started would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [self.programs / program, *arguments],
                user=_user() if os.geteuid() == 0 else None,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            said = output.read()
        assert done.returncode == 0, said
        return said


def find_programs() -> Path | None:
    """The folder with PostgreSQL's programs, of the newest version that is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def running(programs: Path) -> Iterator[Cluster]:
    """A new cluster, running, that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ccapi-"))  # short: a socket's path may not be long
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam(_user())
            os.chown(folder, user.pw_uid, user.pw_gid)
        cluster = Cluster(programs, folder)
        cluster._run(
            "initdb", "-D", str(folder / "data"), "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


def _user() -> str:
    """As whom it runs: PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
