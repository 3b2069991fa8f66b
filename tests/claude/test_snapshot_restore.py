"""Restoring: all of it or none, never outside of the folder, never what somebody else has made."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_ccapi.claude.errors import ChangedSince, ClaudeError
from jupyter_ccapi.claude.snapshots import Snapshots
from tests.claude.workspaces import fill, state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def snapshots(tmp_path: Path, folder: Path) -> Snapshots:
    """Its snapshots."""
    return Snapshots(tmp_path / "store", folder)


def test_only_the_paths_that_are_named_are_restored(snapshots: Snapshots, folder: Path) -> None:
    fill(folder, {"a": "1", "b": "1", "c": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2", "b": "2", "new": "2"})
    (folder / "c").unlink()
    snapshots.restore(first, ["a", "c", "never-there"], expected=None)
    assert state(folder) == {
        "a": ("file", b"1"),
        "b": ("file", b"2"),
        "c": ("file", b"1"),
        "new": ("file", b"2"),
    }


def test_what_another_hand_has_changed_is_not_overwritten(
    snapshots: Snapshots, folder: Path
) -> None:
    """Nothing is, then; and all is without an expectation."""
    fill(folder, {"a": "1", "b": "1", "c": "1", "d": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2", "b": "2", "c": "2", "d": "2", "e": "2"})
    second = snapshots.take()
    fill(folder, {"b": "by hand"})
    (folder / "c").unlink()
    (folder / "d").chmod(0o755)
    (folder / "e").unlink()
    (folder / "e").symlink_to("a")
    before = state(folder)
    with pytest.raises(ChangedSince, match=r"another hand since: 'b', 'c', 'd', 'e'\.") as refused:
        snapshots.restore(first, ["a", "b", "c", "d", "e"], expected=second)
    assert refused.value.paths == ("b", "c", "d", "e")
    assert state(folder) == before
    snapshots.restore(first, ["a", "b", "c", "d", "e"], expected=None)
    assert snapshots.take() == first


def test_a_file_that_somebody_has_made_is_not_overwritten(
    snapshots: Snapshots, folder: Path
) -> None:
    """Where the turn had deleted it."""
    fill(folder, {"a": "1"})
    first = snapshots.take()
    (folder / "a").unlink()
    second = snapshots.take()
    fill(folder, {"a": "by hand"})
    with pytest.raises(ChangedSince):
        snapshots.restore(first, ["a"], expected=second)
    assert (folder / "a").read_text() == "by hand"


@pytest.mark.parametrize(
    "path",
    ["../outside", "/etc/passwd", "a/../../outside", "", ".", "a//b", "a/", "./a", "a\0b"],
)
def test_a_path_that_leads_elsewhere_is_refused(
    snapshots: Snapshots, folder: Path, path: str
) -> None:
    (folder.parent / "outside").write_text("theirs")
    first = snapshots.take()
    with pytest.raises(ClaudeError, match="is no path of a file in this folder"):
        snapshots.restore(first, [path], expected=None)
    assert (folder.parent / "outside").read_text() == "theirs"


@pytest.mark.parametrize("path", [".git/config", ".git", "in/.git/hooks/x", ".GIT/config"])
def test_a_repositorys_own_files_are_refused(snapshots: Snapshots, folder: Path, path: str) -> None:
    first = snapshots.take()
    with pytest.raises(ClaudeError, match="belongs to a git repository itself"):
        snapshots.restore(first, [path], expected=None)


def test_nothing_goes_through_a_folder_that_became_a_link(
    snapshots: Snapshots, folder: Path
) -> None:
    """It is what has to go first; else the whole is refused."""
    outside = folder.parent / "outside"
    fill(outside, {"a": "theirs", "new": "theirs"})
    fill(folder, {"in/a": "1"})
    first = snapshots.take()
    shutil.rmtree(folder / "in")
    (folder / "in").symlink_to(outside)
    second = snapshots.take()
    with pytest.raises(ClaudeError, match="'in' is no folder any more"):
        snapshots.restore(first, ["in/a"], expected=None)
    snapshots.restore(first, ["in/new"], expected=None)
    paths = [change.path for change in snapshots.changes(first, second)]
    assert paths == ["in", "in/a"]
    snapshots.restore(first, paths, expected=second)
    assert state(folder) == {"in/a": ("file", b"1")}
    assert state(outside) == {"a": ("file", b"theirs"), "new": ("file", b"theirs")}


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was one when everything was looked at."""
    outside = folder.parent / "outside"
    fill(outside, {"a": "theirs"})
    fill(folder, {"a": "1", "in/a": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2", "in/a": "2"})
    rename = os.rename

    def swap(*arguments: object, **more: object) -> None:
        rename(*arguments, **more)  # type: ignore[arg-type]
        if not (folder / "in").is_symlink():
            rename(folder / "in", folder / "aside")
            (folder / "in").symlink_to(outside)

    monkeypatch.setattr(os, "rename", swap)
    with pytest.raises(ClaudeError, match="'in/a' changed just now"):
        snapshots.restore(first, ["a", "in/a"], expected=None)
    assert (folder / "a").read_text() == "2"
    assert state(outside) == {"a": ("file", b"theirs")}


def test_a_folder_with_other_files_in_it_does_not_make_way(
    snapshots: Snapshots, folder: Path
) -> None:
    """For the file that it was; with nothing but empty folders in it, it does."""
    fill(folder, {".gitignore": "*.log", "a": "1"})
    first = snapshots.take()
    (folder / "a").unlink()
    fill(folder, {"a/b": "2", "a/kept.log": "ignored"})
    (folder / "a" / "empty" / "empty").mkdir(parents=True)
    second = snapshots.take()
    with pytest.raises(ClaudeError, match=r"'a' cannot be .* and 'a/kept.log' in it would be lost"):
        snapshots.restore(first, ["a", "a/b"], expected=second)
    assert state(folder).keys() == {".gitignore", "a/b", "a/kept.log"}
    (folder / "a" / "kept.log").unlink()
    snapshots.restore(first, ["a", "a/b"], expected=second)
    assert state(folder)["a"] == ("file", b"1")


def test_folders_go_with_their_last_file_unless_they_were_there(
    snapshots: Snapshots, folder: Path
) -> None:
    """Also where only ignored files were in them."""
    for name in ("empty", "ignoring", "whole"):
        (folder / name).mkdir()
    fill(folder, {".gitignore": "*.log\nwhole/\n", "ignoring/a.log": "", "whole/a": ""})
    first = snapshots.take()
    shutil.rmtree(folder / "whole")
    fill(folder, {".gitignore": "*.log\n", "empty/a": "", "ignoring/b": "", "new/in/a": ""})
    fill(folder, {"whole/b": "", "other/a.log": "", "other/b": ""})
    (folder / "ignoring" / "a.log").unlink()
    second = snapshots.take()
    paths = [change.path for change in snapshots.changes(first, second)]
    snapshots.restore(first, paths, expected=second)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".gitignore",
        "empty",
        "ignoring",
        "other",
        "whole",
    ]
    assert (folder / "whole" / "b").exists()


@pytest.mark.parametrize("call", ["rename", "unlink", "symlink", "mkdir"])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_failure_half_way_puts_everything_back(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, when: int
) -> None:
    """As it was, modes and folders too; the sentence names the file."""
    fill(folder, {"a": "1", "b/c": "1", "d/e/f": "1", "g": "1", "h/i": "1", "j/k/l": "1"})
    for number in range(3):
        (folder / f"link{number}").symlink_to("a")
    first = snapshots.take()
    shutil.rmtree(folder / "d")
    shutil.rmtree(folder / "h")
    shutil.rmtree(folder / "j")
    for number in range(3):
        (folder / f"link{number}").unlink()
    (folder / "g").unlink()
    fill(folder, {"a": "2", "b/c": "2", "d": "file", "g/x/y": "2", "new/in/z": "2", "n": "2"})
    (folder / "a").chmod(0o700)
    second = snapshots.take()
    before = state(folder)
    fails_at(monkeypatch, call, when)
    paths = [change.path for change in snapshots.changes(first, second)]
    with pytest.raises(
        ClaudeError, match=r"^'.*' could not be restored: No space left on device\."
    ):
        snapshots.restore(first, paths, expected=second)
    monkeypatch.undo()
    assert state(folder) == before
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o700
    assert (folder / "new" / "in").is_dir()
    assert not (folder / "h").exists()
    snapshots.restore(first, paths, expected=second)
    assert snapshots.changes(first, snapshots.take()) == []


def fails_at(monkeypatch: pytest.MonkeyPatch, name: str, when: int) -> None:
    """Have a call of the system fail once, the `when`th time."""
    real: Callable[..., object] = getattr(os, name)
    calls = 0

    def call(*arguments: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == when:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **more)

    monkeypatch.setattr(os, name, call)


def test_what_cannot_be_put_back_either_is_said(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"a": "1", "b": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2", "b": "2"})
    rename, calls = os.rename, 0

    def fail(*arguments: object, **more: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", fail)
    said = r"'b' could not be restored: .*\. These could not be put back as they were: 'a'\.$"
    with pytest.raises(ClaudeError, match=said):
        snapshots.restore(first, ["a", "b"], expected=None)


def test_a_file_that_changes_in_the_middle_stops_the_whole(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"a": "1", "b": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2", "b": "2"})
    second = snapshots.take()
    rename = os.rename

    def interfere(*arguments: object, **more: object) -> None:
        rename(*arguments, **more)  # type: ignore[arg-type]
        (folder / "b").write_text("by hand")

    monkeypatch.setattr(os, "rename", interfere)
    with pytest.raises(ClaudeError, match="'b' changed just now, while it was to be restored"):
        snapshots.restore(first, ["a", "b"], expected=second)
    assert state(folder) == {"a": ("file", b"2"), "b": ("file", b"by hand")}


def test_nobody_finds_half_of_a_file(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears whole, under its own name; what a cut off rewind leaves is in no snapshot."""
    fill(folder, {"a": "1" * 1000})
    first = snapshots.take()
    fill(folder, {"a": "2"})
    rename = os.rename
    beside: list[str] = []

    def die(source: str, *arguments: object, **more: object) -> None:
        beside.append(source)
        rename(source, folder / ".ccapi-restoring-left", src_dir_fd=more["src_dir_fd"])  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        snapshots.restore(first, ["a"], expected=None)
    assert (folder / "a").read_text() == "2"
    assert beside[0].startswith(".ccapi-restoring-")
    (one,) = snapshots.not_covered(snapshots.take())
    assert (one.path, one.why) == (
        ".ccapi-restoring-left",
        "left behind by a rewind that was cut off",
    )


def test_permissions_stay_as_they_are_but_for_what_is_executable(
    snapshots: Snapshots, folder: Path
) -> None:
    """And what only its owner could read is never shown to others."""
    folder.chmod(0o755)
    fill(folder, {"shared": "1", "key": "1", "program": "1"})
    (folder / "key").chmod(0o600)
    (folder / "program").chmod(0o755)
    first = snapshots.take()
    fill(folder, {"shared": "2", "key": "2"})
    (folder / "shared").chmod(0o660)
    (folder / "key").unlink()
    (folder / "program").chmod(0o640)
    snapshots.restore(first, ["shared", "key", "program"], expected=None)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"shared": 0o660, "key": 0o600, "program": 0o750}


def test_a_pipe_in_the_place_of_a_file_is_not_touched(snapshots: Snapshots, folder: Path) -> None:
    fill(folder, {"a": "1"})
    first = snapshots.take()
    (folder / "a").unlink()
    os.mkfifo(folder / "a")
    with pytest.raises(ClaudeError, match="'a' is neither a file nor a link now"):
        snapshots.restore(first, ["a"], expected=None)


def test_restoring_nothing_changes_nothing(snapshots: Snapshots, folder: Path) -> None:
    """Nor does it touch a file that is already as it should be."""
    fill(folder, {"a": "1"})
    first = snapshots.take()
    before = (folder / "a").stat()
    snapshots.restore(first, [], expected=first)
    snapshots.restore(first, ["a"], expected=first)
    after = (folder / "a").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_was_overwritten_does_not_stay_in_the_store(
    snapshots: Snapshots, folder: Path, tmp_path: Path
) -> None:
    """It is there only for as long as it may have to be put back."""
    fill(folder, {"a": "1"})
    first = snapshots.take()
    before = sorted((tmp_path / "store").rglob("objects/??/*"))
    fill(folder, {"a": "overwritten"})
    snapshots.restore(first, ["a"], expected=None)
    assert sorted((tmp_path / "store").rglob("objects/??/*")) == before
