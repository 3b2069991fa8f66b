"""What snapshots of a workspace of 10,000 files cost a turn (k): one before it, one after it."""

import time
from pathlib import Path

from jupyter_ccapi.claude.snapshots import Snapshots
from tests.benchmarks.measuring import Figure, NotMeasured, milliseconds_since
from tests.benchmarks.setting import Setting

_FOLDERS = 200
_FILES = 50

# So many files change between two snapshots.
_CHANGED = 5

# A file that changed shortly before it was read is read again the next time: seconds.
_SETTLED = 2.1


def turns(setting: Setting) -> list[Figure]:
    """(k) The two snapshots of a turn that changes five files, after five were changed by hand."""
    workspace = setting.home("snapshots") / "workspace"
    _fill(workspace)
    time.sleep(_SETTLED)
    snapshots = Snapshots(setting.folder / "snapshots-store", workspace)
    began = time.perf_counter()
    snapshots.take()
    first = milliseconds_since(began)
    samples = []
    for number in range(setting.sizes.snapshot_turns):
        _change(workspace, 2 * number)
        began = time.perf_counter()
        before = snapshots.take()
        spent = milliseconds_since(began)
        _change(workspace, 2 * number + 1)
        began = time.perf_counter()
        after = snapshots.take()
        samples.append(spent + milliseconds_since(began))
        if (found := len(snapshots.changes(before, after))) != _CHANGED:
            raise NotMeasured(f"{_CHANGED} files were changed, and {found} were seen")
    snapshots.close()
    return [
        Figure("k", "two snapshots of a turn, 10,000 files", "ms", tuple(samples)),
        Figure("k.first", "… the first one ever", "ms", (first,)),
    ]


def _fill(workspace: Path) -> None:
    for place in range(_FOLDERS):
        folder = workspace / f"package{place // 20}" / f"module{place}"
        folder.mkdir(parents=True)
        for number in range(_FILES):
            text = "".join(f"value_{line} = {place * number + line}\n" for line in range(40))
            (folder / f"file{number}.py").write_text(text)


def _change(workspace: Path, number: int) -> None:
    for file in range(_CHANGED):
        path = workspace / "package0" / f"module{file}" / f"file{number % _FILES}.py"
        with path.open("a") as opened:
            opened.write(f"changed = {number}\n")
