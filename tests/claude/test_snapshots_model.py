"""Whatever happens in a folder, each of its snapshots brings it back exactly."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from jupyter_ccapi.claude.snapshots import SnapshotLimits, Snapshots
from tests.claude.workspaces import State, state

PATHS = some.lists(some.sampled_from(["a", "b", "é", "-x", "a b"]), min_size=1, max_size=3).map(
    "/".join
)
CONTENTS = some.sampled_from([b"", b"1", b"2", b"1\n2\n", b"1\r\n", b"\0", b"\xff"])


class Workspace(RuleBasedStateMachine):
    """A folder that is changed at random, two processes that take snapshots of it, and what was in
    it each time.
    """

    @initialize()
    def begin(self) -> None:
        """Make an empty folder."""
        self.place = Path(tempfile.mkdtemp(prefix="ccapi-model-")).resolve()
        self.folder = self.place / "workspace"
        self.folder.mkdir()
        limits = SnapshotLimits(spared_seconds=0, collect_seconds=0)
        self.processes = [
            Snapshots(self.place / "store", self.folder, limits=limits) for _ in range(2)
        ]
        self.known: dict[str, State] = {}

    def teardown(self) -> None:
        """Remove it."""
        if hasattr(self, "place"):
            for one in self.processes:
                one.close()
            shutil.rmtree(self.place)

    @rule(path=PATHS, content=CONTENTS, program=some.booleans())
    def write(self, path: str, content: bytes, program: bool) -> None:
        """Write a file, unless a folder is there."""
        if target := self._clear_way(path):
            target.unlink(missing_ok=True)
            target.write_bytes(content)
            target.chmod(0o755 if program else 0o644)

    @rule(path=PATHS, to=some.sampled_from(["a", "b/a", "/etc", "..", "nowhere", "./a//b"]))
    def link(self, path: str, to: str) -> None:
        """Make a link, to a file, a folder, or nothing."""
        if target := self._clear_way(path):
            target.unlink(missing_ok=True)
            os.symlink(to, target)  # noqa: PTH211 - as it is written

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        """Delete a file, or a whole folder."""
        target = self.folder / path
        if self._below_links(target) or not os.path.lexists(target):
            return
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink()

    @rule(path=PATHS, name=PATHS)
    def rename(self, path: str, name: str) -> None:
        """Rename a file or a folder, also over another file."""
        source, target = self.folder / path, self._clear_way(name)
        inside = f"{name}/".startswith(f"{path}/")
        if not target or inside or not os.path.lexists(source) or self._below_links(source):
            return
        if source.is_symlink() or source.is_file() or not os.path.lexists(target):
            source.rename(target)

    @rule(path=PATHS)
    def make_folder(self, path: str) -> None:
        """Make an empty folder."""
        if (target := self._clear_way(path)) and not os.path.lexists(target):
            target.mkdir()

    @rule(number=some.integers(0, 1))
    def take(self, number: int) -> None:
        """Take a snapshot, which is the one that an equal folder had."""
        now = state(self.folder)
        snapshot = self.processes[number].take()
        assert self.known.setdefault(snapshot, now) == now

    @precondition(lambda self: self.known)
    @rule(data=some.data(), number=some.integers(0, 1))
    def restore(self, data: some.DataObject, number: int) -> None:
        """Bring a former state back."""
        snapshots = self.processes[number]
        snapshot = data.draw(some.sampled_from(sorted(self.known)))
        before = state(self.folder)
        now = snapshots.take()
        self.known[now] = before
        changes = {change.path: change.kind for change in snapshots.changes(snapshot, now)}
        then = self.known[snapshot]
        assert changes == {
            path: "added" if path not in then else "modified" if path in before else "deleted"
            for path in sorted({*before, *then})
            if before.get(path) != then.get(path)
        }
        snapshots.restore(snapshot, changes, expected=now)
        assert state(self.folder) == then

    @precondition(lambda self: len(self.known) > 1)
    @rule(data=some.data())
    def keep(self, data: some.DataObject) -> None:
        """Let some of them go."""
        kept = data.draw(some.lists(some.sampled_from(sorted(self.known)), unique=True))
        self.processes[0].keep("somebody", kept)
        self.known = {one: self.known[one] for one in kept}

    def _clear_way(self, path: str) -> Path | None:
        """Where a file can be: its folder is made. None where something else is in the way."""
        target = self.folder / path
        if self._below_links(target) or (target.is_dir() and not target.is_symlink()):
            return None
        if any(one.is_file() for one in target.parents):
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _below_links(self, target: Path) -> bool:
        parents = [one for one in target.parents if one.is_relative_to(self.folder)]
        return any(one.is_symlink() for one in parents)


TestWorkspace = Workspace.TestCase
TestWorkspace.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
