"""Snapshots of a workspace: what they cover, what they leave alone, and what survives."""

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pygit2
import pytest

from jupyter_ccapi.claude import snapshot_taking
from jupyter_ccapi.claude.changes import FileChange, NotCovered
from jupyter_ccapi.claude.errors import CannotSnapshot, ClaudeError
from jupyter_ccapi.claude.snapshot_taking import read_file
from jupyter_ccapi.claude.snapshots import SnapshotLimits, Snapshots
from tests.claude.workspaces import fill, state

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="makes repositories with git")
KB = 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace without git."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def snapshots(tmp_path: Path, folder: Path) -> Snapshots:
    """Its snapshots."""
    return Snapshots(tmp_path / "store", folder)


def limited(tmp_path: Path, folder: Path, **limits: float) -> Snapshots:
    """Snapshots with other limits, in a store of their own."""
    return Snapshots(tmp_path / "limited", folder, limits=SnapshotLimits(**limits))  # type: ignore[arg-type]


def git(folder: Path, *arguments: str, **more: str) -> str:
    """Run git as a person would, whose settings are empty."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
        **more,
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def back(snapshots: Snapshots, target: str) -> None:
    """Take everything back to a snapshot, as a rewind does."""
    now = snapshots.take()
    paths = [change.path for change in snapshots.changes(target, now)]
    snapshots.restore(target, paths, expected=now)


def kinds(snapshots: Snapshots, old: str, new: str) -> dict[str, str]:
    """What changed, and how."""
    return {change.path: change.kind for change in snapshots.changes(old, new)}


def reasons(snapshots: Snapshots, snapshot: str) -> dict[str, str]:
    """What is left out, and why."""
    return {one.path: one.why for one in snapshots.not_covered(snapshot)}


def test_what_changed_is_told_with_its_lines(snapshots: Snapshots, folder: Path) -> None:
    """Sorted by path; a rename is a deletion and an addition."""
    fill(
        folder, {"same": "x", "z/edited": "a\nb\nc\n", "renamed": "r\n", "gone": "1\n2", "b": "\0"}
    )
    old = snapshots.take()
    fill(folder, {"z/edited": "a\nB\nc\nd\n", "new": "n\n", "b": "\0\1"})
    (folder / "renamed").rename(folder / "name")
    (folder / "gone").unlink()
    new = snapshots.take()
    assert snapshots.changes(old, new) == [
        FileChange("b", "modified", 0, 0, binary=True),
        FileChange("gone", "deleted", 0, 2, binary=False),
        FileChange("name", "added", 1, 0, binary=False),
        FileChange("new", "added", 1, 0, binary=False),
        FileChange("renamed", "deleted", 0, 1, binary=False),
        FileChange("z/edited", "modified", 2, 1, binary=False),
    ]


def test_the_diff_is_of_all_files_or_of_some(snapshots: Snapshots, folder: Path) -> None:
    fill(folder, {"a": "1\n", "b": "1\n"})
    old = snapshots.take()
    fill(folder, {"a": "2\n", "b": "2\n", "c": "\0"})
    new = snapshots.take()
    whole = snapshots.diff(old, new)
    assert [line for line in whole.splitlines() if line.startswith("diff")] == [
        "diff --git a/a b/a",
        "diff --git a/b b/b",
        "diff --git a/c b/c",
    ]
    assert "Binary files /dev/null and b/c differ" in whole
    assert snapshots.diff(old, new, ["b"]) == (
        "diff --git a/b b/b\nindex d00491f..0cfbf08 100644\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-1\n+2\n"
    )
    assert snapshots.diff(old, old) == ""


def test_a_diff_is_bounded_and_says_what_was_cut(snapshots: Snapshots, folder: Path) -> None:
    old = snapshots.take()
    fill(folder, {f"file{number}": "line\n" * 20_000 for number in range(5)})
    fill(folder, {"a-huge-one": "line\n" * 1_000_000})
    text = snapshots.diff(old, snapshots.take())
    assert len(text) < 250_000
    assert "\\ too long to be shown: 5,000,000 bytes\n" in text
    assert text.endswith("\\ 4 of the files are not shown, or not to their end\n")


@pytest.mark.parametrize("name", ["a\nb", '"', "\udcff", "\x1b", "\\"])
def test_names_that_would_break_a_line_are_quoted(
    snapshots: Snapshots, folder: Path, name: str
) -> None:
    """So that no name can pass for a line of the diff."""
    old = snapshots.take()
    fill(folder, {name: "x\n"})
    lines = snapshots.diff(old, snapshots.take()).splitlines()
    assert [line[:7] for line in lines] == [
        "diff --",
        "new fil",
        "index 0",
        "--- /de",
        '+++ "b/',
        "@@ -0,0",
        "+x",
    ]


def test_lines_of_long_files_are_counted(snapshots: Snapshots, folder: Path) -> None:
    """Where they have only moved, they do not count."""
    long = [f"a line that is long enough: {number}\n" for number in range(200_000)]
    rows = [f"row {number if number % 2 else number % 8}\n" for number in range(50_000)]
    few = "".join(f"{number % 7}\n" for number in range(60_000))
    fill(folder, {"long": "".join(long), "rows": "".join(rows), "few": few})
    old = snapshots.take()
    rows[0], rows[25_000], rows[-1] = "first\n", "middle\n", "last\n"
    fill(folder, {"long": "".join([*long[100:], "more\n", "more\n", *long[:99]])})
    fill(folder, {"rows": "".join(rows), "few": "".join(f"{n % 5}\n" for n in range(60_000))})
    found = {
        one.path: (one.insertions, one.deletions)
        for one in snapshots.changes(old, snapshots.take())
    }
    inserted, deleted = found.pop("few")
    assert inserted == deleted
    assert found == {"long": (2, 1), "rows": (3, 3)}


def test_equal_states_are_one_snapshot(snapshots: Snapshots, folder: Path) -> None:
    fill(folder, {"a": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2"})
    assert snapshots.take() != first
    fill(folder, {"a": "1"})
    assert snapshots.take() == first
    assert snapshots.changes(first, first) == []


@needs_git
def test_a_snapshot_holds_the_tree_that_git_would_make(
    snapshots: Snapshots, folder: Path, tmp_path: Path
) -> None:
    """By git's own id, so that not a byte, name or mode is different."""
    fill(folder, {"a/b/c": "1", "a.b": "2", "a-b": "3", "a0": "", "é": "x", "a/.gitignore": "no\n"})
    fill(folder, {"a/no": "ignored", "program": "#!"})
    (folder / "program").chmod(0o755)
    (folder / "link").symlink_to("./a//b/")
    (folder / "dangling").symlink_to("nowhere")
    (folder / os.fsdecode(b"\xff\n\"'")).write_text("odd")
    (folder / "-rf").write_text("")
    snapshot = snapshots.take()
    stored = {path.parent.name + path.name for path in objects(tmp_path / "store")}
    where = (f"--git-dir={tmp_path / 'git'}", f"--work-tree={folder}")
    git(tmp_path, "init", "-q", "--bare", str(tmp_path / "git"))
    git(folder, *where, "-c", "core.bare=false", "add", "-A")
    assert git(folder, *where, "-c", "core.bare=false", "write-tree") in stored
    assert snapshot in stored


@needs_git
def test_the_users_repository_stays_as_it_is(snapshots: Snapshots, folder: Path) -> None:
    """Every byte and time of it, and what is staged in it."""
    git(folder, "init", "-q")
    fill(folder, {"a": "1", "b": "1", ".git/hooks/post-index-change": "#!/bin/sh\ntouch ../hooked"})
    (folder / ".git" / "hooks" / "post-index-change").chmod(0o755)
    git(folder, "add", "a")
    git(folder, "commit", "-q", "-m", "first", "--no-verify")
    fill(folder, {"a": "2"})
    git(folder, "add", "a")
    before = everything(folder / ".git")
    first = snapshots.take()
    fill(folder, {"a": "3", "c": "3"})
    back(snapshots, first)
    assert everything(folder / ".git") == before
    assert (folder / "a").read_text() == "2"
    assert reasons(snapshots, first) == {".git": "the repository itself"}


def everything(folder: Path) -> dict[str, tuple[str, int, int]]:
    """All files of a folder: a hash, the mode, the time of the last change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = digest, status.st_mode, status.st_mtime_ns
    return found


def test_ignored_files_are_left_out_and_said(snapshots: Snapshots, folder: Path) -> None:
    """By folder, where a whole one is ignored; also what the repository's own list names."""
    fill(folder, {".gitignore": "data/\n*.log\n!kept.log\n", "in/.gitignore": "/own\n"})
    fill(
        folder,
        {"data/a": "", "data/b/c": "", "x.log": "", "kept.log": "", "in/own": "", "in/y": ""},
    )
    fill(folder, {".git/info/exclude": "excluded\n", "excluded": "", "in/x.log": ""})
    snapshot = snapshots.take()
    assert reasons(snapshots, snapshot) == {
        ".git": "the repository itself",
        "data": "ignored",
        "excluded": "ignored",
        "in/own": "ignored",
        "in/x.log": "ignored",
        "x.log": "ignored",
    }
    shutil.rmtree(folder / "data")
    fill(folder, {"kept.log": "2", "x.log": "2"})
    assert kinds(snapshots, snapshot, snapshots.take()) == {"kept.log": "modified"}


def test_a_repository_around_the_folder_counts(tmp_path: Path) -> None:
    """Up to its top, and no further; its own list of a worktree too."""
    folder = tmp_path / "repository" / "a" / "b"
    own = tmp_path / "main" / ".git" / "worktrees" / "w"
    fill(own, {"commondir": "../..\n"})
    fill(tmp_path, {".gitignore": "outside\n", "main/.git/info/exclude": "excluded\n"})
    fill(
        tmp_path / "repository",
        {
            ".git": f"gitdir: {own}\n",
            ".gitignore": "/a/b/anchored\n/anchored2\n**/any/*.log\n",
            "a/.gitignore": "above\n",
        },
    )
    names = ["outside", "excluded", "anchored", "anchored2", "above", "any/x.log", "other"]
    fill(folder, dict.fromkeys(names, ""))
    snapshots = Snapshots(tmp_path / "store", folder)
    assert reasons(snapshots, snapshots.take()) == dict.fromkeys(
        ["above", "anchored", "any/x.log", "excluded"], "ignored"
    )


def test_a_repository_that_ignores_the_whole_folder_does_not_count(tmp_path: Path) -> None:
    """Who works in a scratch folder, or below a home folder under git, means its files."""
    folder = tmp_path / "scratch" / "in"
    (tmp_path / ".git").mkdir()
    fill(tmp_path, {".gitignore": "scratch/\n*.csv\n"})
    fill(folder, {".gitignore": "*.log\n", "a.csv": "", "a.log": ""})
    snapshots = Snapshots(tmp_path / "store", folder)
    assert reasons(snapshots, snapshots.take()) == {"a.log": "ignored"}


def test_what_was_ignored_once_is_not_deleted_by_a_rewind(
    snapshots: Snapshots, folder: Path
) -> None:
    """A turn may take `data/` out of the .gitignore."""
    fill(folder, {".gitignore": "data/\n*.csv\n", "data/a": "precious", "table.csv": "precious"})
    old = snapshots.take()
    fill(folder, {".gitignore": "", "data/b": "may be precious too", "code": "x", "new.csv": "x"})
    new = snapshots.take()
    assert reasons(snapshots, new) == {}
    assert kinds(snapshots, old, new) == {
        ".gitignore": "modified",
        "code": "added",
        "new.csv": "added",
    }
    with pytest.raises(ClaudeError, match=r"'data/a' was is not known.*\(ignored\)"):
        snapshots.restore(old, [".gitignore", "data/a"], expected=None)
    assert (folder / ".gitignore").read_text() == ""
    back(snapshots, old)
    assert (folder / "data" / "a").read_text() == "precious"
    assert (folder / "data" / "b").exists()
    assert (folder / "table.csv").exists()
    assert not (folder / "new.csv").exists()


def test_what_was_covered_stays_so_when_it_becomes_ignored(
    snapshots: Snapshots, folder: Path
) -> None:
    """Else what a turn does to files that it lets git ignore could not be taken back."""
    fill(folder, {"data/a": "1", "data/c": "1", "x.csv": "1"})
    old = snapshots.take()
    fill(folder, {".gitignore": "data/\n*.csv\n", "data/a": "2", "data/b": "new", "x.csv": "2"})
    (folder / "data" / "c").unlink()
    new = snapshots.take()
    assert reasons(snapshots, new) == {"data/b": "ignored"}
    assert kinds(snapshots, old, new) == {
        ".gitignore": "added",
        "data/a": "modified",
        "data/c": "deleted",
        "x.csv": "modified",
    }
    back(snapshots, old)
    assert state(folder) == {
        "data/a": ("file", b"1"),
        "data/b": ("file", b"new"),
        "data/c": ("file", b"1"),
        "x.csv": ("file", b"1"),
    }


def test_what_is_ignored_later_no_longer_counts_where_there_is_too_much(
    tmp_path: Path, folder: Path
) -> None:
    """The advice to ignore some of it has to help."""
    snapshots = limited(tmp_path, folder, files=10)
    fill(folder, {f"data/{number}": "" for number in range(9)})
    snapshots.take()
    fill(folder, {f"code/{number}": "" for number in range(9)})
    with pytest.raises(CannotSnapshot, match=r"more than 10 files.*\.gitignore"):
        snapshots.take()
    fill(folder, {".gitignore": "data\n"})
    assert reasons(snapshots, snapshots.take()) == {"data": "ignored"}


def test_a_file_over_the_limit_is_left_out(tmp_path: Path, folder: Path) -> None:
    """Also one that grew, and one that shrank, which a rewind must neither delete nor replace."""
    snapshots = limited(tmp_path, folder, file_bytes=10 * KB)
    fill(folder, {"shrinks": "x" * 11 * KB, "grows": "small", "fits": "x" * 10 * KB})
    old = snapshots.take()
    assert snapshots.not_covered(old) == [NotCovered("shrinks", "larger than 10 KB")]
    fill(folder, {"shrinks": "small", "grows": "x" * 11 * KB})
    new = snapshots.take()
    assert snapshots.not_covered(new) == [NotCovered("grows", "larger than 10 KB")]
    assert snapshots.changes(old, new) == []
    with pytest.raises(ClaudeError, match="'grows' is larger than 10 KB now"):
        snapshots.restore(old, ["grows"], expected=None)


def test_a_folder_with_too_much_in_it_is_refused(tmp_path: Path, folder: Path) -> None:
    """By number and by size; what is ignored does not count."""
    few = limited(tmp_path, folder, files=5)
    small = limited(tmp_path, folder, total_bytes=KB)
    fill(folder, {".gitignore": "ignored/\n"} | {f"ignored/{n}": "x" * KB for n in range(9)})
    assert few.refusal() is None
    assert small.refusal() is None
    fill(folder, {f"in/{number}": "x" * 300 for number in range(5)})
    for snapshots, what in ((few, "more than 5 files"), (small, "more than 1 KB")):
        assert what in str(snapshots.refusal())
        with pytest.raises(CannotSnapshot, match=what):
            snapshots.take()


def test_home_folders_and_what_holds_them_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not what is in them."""
    home = tmp_path / "homes" / "somebody"
    (home / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "link").symlink_to(home)
    for folder, what in (
        (home, "is the home folder"),
        (tmp_path / "link", "is the home folder"),
        (home.parent, "holds the home folder"),
        (Path("/"), "home folder"),
        (tmp_path / "nowhere", "There is no folder"),
        (tmp_path / "store", "is where snapshots are kept"),
    ):
        snapshots = Snapshots(tmp_path / "store", folder)
        if "kept" in what:
            (tmp_path / "store").mkdir(exist_ok=True)
        assert what in str(snapshots.refusal())
        with pytest.raises(CannotSnapshot, match=what):
            snapshots.take()
    assert Snapshots(tmp_path / "store", home / "project").refusal() is None


def test_a_store_inside_of_the_workspace_does_not_hold_itself(folder: Path) -> None:
    snapshots = Snapshots(folder / ".kept" / "store", folder)
    fill(folder, {"a": "1"})
    first = snapshots.take()
    assert snapshots.take() == first
    assert reasons(snapshots, first) == {".kept/store": "the snapshots themselves"}


def test_the_store_is_its_owners_alone(snapshots: Snapshots, folder: Path, tmp_path: Path) -> None:
    snapshots.take()
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    for path in (tmp_path / "store").iterdir():
        assert not path.stat().st_mode & 0o077


@needs_git
def test_nested_repositories_are_left_out_and_left_alone(
    snapshots: Snapshots, folder: Path
) -> None:
    """Whether they were there before or a turn has made them, and submodules too."""
    fill(
        folder, {"old/a": "1", "plain/a": "1", "module/.git": "gitdir: elsewhere", "module/a": "1"}
    )
    git(folder / "old", "init", "-q")
    old = snapshots.take()
    nested = "a nested repository"
    assert reasons(snapshots, old) == {"old": nested, "module": nested}
    fill(folder, {"old/a": "2", "plain/a": "2", "module/a": "2", "new/a": "2", "plain/b": "2"})
    git(folder / "plain", "init", "-q")
    git(folder / "new", "init", "-q")
    new = snapshots.take()
    assert reasons(snapshots, new) == dict.fromkeys(["module", "new", "old", "plain"], nested)
    assert snapshots.changes(old, new) == []
    for path in ("plain/a", "plain/b", "plain/.git/config"):
        with pytest.raises(ClaudeError, match="repository"):
            snapshots.restore(old, [path], expected=None)
    assert {path.read_text() for path in folder.glob("*/[ab]")} == {"2"}


def test_gitattributes_change_no_byte_and_run_nothing(snapshots: Snapshots, folder: Path) -> None:
    """Neither line ends, nor keywords, nor encodings, nor filters."""
    fill(
        folder,
        {
            ".gitattributes": "* text=auto\n*.crlf text eol=crlf\n*.id ident\n"
            "*.big filter=lfs diff=lfs\n*.utf16 text working-tree-encoding=UTF-16\n",
            ".git/config": '[core]\nautocrlf = true\n[filter "lfs"]\nrequired = true\n'
            "clean = touch ran; cat\nsmudge = touch ran; cat\n",
            "a.crlf": "1\r\n2\n",
            "b.id": "$Id$\n",
            "c.big": "content",
            "d.utf16": "plain",
            "e": "1\r\n",
        },
    )
    before = state(folder)
    first = snapshots.take()
    for path in folder.iterdir():
        if path.is_file():
            path.write_bytes(b"changed")
    back(snapshots, first)
    assert state(folder) == before
    assert not (folder / "ran").exists()


def test_settings_of_git_have_no_influence(
    snapshots: Snapshots, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the user's, even broken, nor the environment's."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[core\nbroken")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    fill(folder, {"a": "1"})
    first = snapshots.take()
    fill(folder, {"a": "2"})
    assert kinds(snapshots, first, snapshots.take()) == {"a": "modified"}
    assert not (tmp_path / "elsewhere").exists()


WITH_SETTINGS = """
import sys
from pathlib import Path
import pygit2
from pygit2.enums import ConfigLevel
from jupyter_ccapi.claude.snapshots import Snapshots
before = [pygit2.settings.search_path[level] for level in list(ConfigLevel)[1:5]]
snapshots = Snapshots(Path(sys.argv[1]), Path(sys.argv[2]))
first = snapshots.take()
Path(sys.argv[2], "a").write_bytes(b"1\\n")
print(*[one.path for one in snapshots.changes(first, snapshots.take())])
assert [pygit2.settings.search_path[level] for level in list(ConfigLevel)[1:5]] == before
"""


@pytest.mark.parametrize(
    "settings",
    [
        "[core\nbroken",
        "[core]\n\tautocrlf = true\n\texcludesfile = ~/ignore\n\tattributesfile = ~/attributes\n"
        "[diff]\n\tnoprefix = true\n",
    ],
)
def test_settings_of_a_process_have_no_influence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    """As libgit2 looks for them when it is loaded; and others in the process keep theirs."""
    home = tmp_path / "home"
    fill(home, {".gitconfig": settings, "ignore": "a\n", "attributes": "* text eol=crlf\n"})
    monkeypatch.setenv("HOME", str(home))
    fill(folder, {"a": "1\r\n"})
    assert run(WITH_SETTINGS, str(tmp_path / "store"), str(folder)) == "a"


def test_sockets_and_pipes_are_passed_by(snapshots: Snapshots, folder: Path) -> None:
    """Without waiting for anybody to write."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket"))
        snapshot = snapshots.take()
    assert reasons(snapshots, snapshot) == {"pipe": "a pipe", "socket": "a socket"}
    with pytest.raises(ClaudeError, match="'pipe' was is not known"):
        snapshots.restore(snapshot, ["pipe"], expected=None)


AS_NOBODY = """
import os, sys
from pathlib import Path
from jupyter_ccapi.claude.snapshots import Snapshots
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
snapshots = Snapshots(Path(sys.argv[1]), Path(sys.argv[2]))
print(*[f"{one.path}: {one.why}" for one in snapshots.not_covered(snapshots.take())], sep="|")
"""


def test_what_cannot_be_read_is_left_out(folder: Path, tmp_path: Path) -> None:
    """A file, and a folder."""
    fill(folder, {"readable": "1", "secret": "1", "closed/a": "1"})
    (folder / "secret").chmod(0)
    (folder / "closed").chmod(0)
    home = tmp_path / "for-nobody"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    for path in tmp_path.parents:
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o755)
    tmp_path.chmod(0o755)
    said = run(AS_NOBODY, str(home / "store"), str(folder))
    (folder / "closed").chmod(0o755)
    assert said.split("|") == [
        "closed: cannot be read (Permission denied)",
        "secret: cannot be read (Permission denied)",
    ]


BY_NOBODY = """
import os, sys, tempfile
from pathlib import Path
from jupyter_ccapi.claude.snapshots import Snapshots
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
with tempfile.TemporaryDirectory() as place:
    folder = Path(place, "workspace")
    for name in ("readable", "secret", "closed/a"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(name)
    snapshots = Snapshots(Path(place, "store"), folder)
    first = snapshots.take()
    (folder / "secret").chmod(0), (folder / "closed").chmod(0)
    (folder / "readable").write_text("changed")
    for _ in range(2):
        second = snapshots.take()
        print(*[f"{one.path}: {one.why}" for one in snapshots.not_covered(second)], sep="|")
        print(*[one.path for one in snapshots.changes(first, second)])
    (folder / "closed").chmod(0o700)
"""


def test_what_cannot_be_read_any_more_is_left_out() -> None:
    """Though libgit2 gives up then; it neither was deleted nor has changed."""
    assert run(BY_NOBODY).splitlines() == 2 * [
        "closed: cannot be read (Permission denied)|secret: cannot be read (Permission denied)",
        "readable",
    ]


def run(code: str, *arguments: str) -> str:
    """Run a program that uses this checkout; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ODD_NAMES = {
    "a\nb": "1",
    "'\"`$(x)": "2",
    os.fsdecode(b"\xff\xfe.txt"): "3",
    "-rf": "4",
    "--": "5",
    "e\u0301": "decomposed",
    "\u00e9": "composed",
    " ": "6",
    "\\": "7",
    "a\tb/ x /\x1b[31m": "8",
    "C:": "9",
    "~": "10",
    "empty": "",
    ".hidden/.x": "11",
    "git": "12",
}


def test_odd_names_come_back_as_they_were(snapshots: Snapshots, folder: Path) -> None:
    """Whatever the file system takes."""
    fill(folder, ODD_NAMES)
    before = state(folder)
    assert len(before) == len(ODD_NAMES)
    first = snapshots.take()
    shutil.rmtree(folder)
    folder.mkdir()
    changed = snapshots.changes(first, snapshots.take())
    assert {change.path: change.kind for change in changed} == dict.fromkeys(ODD_NAMES, "deleted")
    snapshots.diff(first, snapshots.take()).encode()
    back(snapshots, first)
    assert state(folder) == before


def test_modes_and_links_come_back(snapshots: Snapshots, folder: Path) -> None:
    fill(folder, {"program": "#!", "file": "x", "in/f": "1"})
    (folder / "program").chmod(0o755)
    (folder / "to-file").symlink_to("file")
    (folder / "to-folder").symlink_to("./in//")
    (folder / "dangling").symlink_to("/nowhere/at all")
    before, first = state(folder), snapshots.take()
    (folder / "program").chmod(0o644)
    (folder / "file").chmod(0o744)
    for name in ("to-file", "to-folder", "dangling"):
        (folder / name).unlink()
    (folder / "to-file").write_text("a file now")
    (folder / "to-folder").mkdir()
    (folder / "to-folder" / "f").write_text("another")
    (folder / "dangling").symlink_to("elsewhere")
    assert kinds(snapshots, first, snapshots.take()) == {
        "dangling": "modified",
        "file": "modified",
        "program": "modified",
        "to-file": "modified",
        "to-folder": "deleted",
        "to-folder/f": "added",
    }
    back(snapshots, first)
    assert state(folder) == before
    assert os.readlink(folder / "to-folder") == "./in//"  # noqa: PTH115 - as it was written


def test_nothing_is_read_behind_a_link_that_was_a_folder(
    snapshots: Snapshots, folder: Path
) -> None:
    outside = folder.parent / "outside"
    fill(outside, {"a": "theirs"})
    fill(folder, {"in/a": "1"})
    first = snapshots.take()
    shutil.rmtree(folder / "in")
    (folder / "in").symlink_to(outside)
    assert kinds(snapshots, first, snapshots.take()) == {"in": "added", "in/a": "deleted"}


def test_a_file_becomes_a_folder_and_a_file_again(snapshots: Snapshots, folder: Path) -> None:
    fill(folder, {"a": "file"})
    one = snapshots.take()
    (folder / "a").unlink()
    fill(folder, {"a/b/c": "deep", "a/d": "d"})
    other = snapshots.take()
    assert kinds(snapshots, one, other) == {"a": "deleted", "a/b/c": "added", "a/d": "added"}
    back(snapshots, one)
    assert state(folder) == {"a": ("file", b"file")}
    back(snapshots, other)
    assert state(folder) == {"a/b/c": ("file", b"deep"), "a/d": ("file", b"d")}


def test_a_change_is_seen_though_size_and_time_are_the_same(
    snapshots: Snapshots, folder: Path
) -> None:
    """As in the very moment after a snapshot."""
    path = folder / "a"
    found = set()
    for number in range(20):
        path.write_text(f"{number:02}")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        found.add(snapshots.take())
    assert len(found) == 20


def test_an_unchanged_file_is_not_read_again(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once it is old enough; neither by the next process."""
    settle(monkeypatch)
    fill(folder, {"in/a": "1"})
    first = snapshots.take()
    monkeypatch.setattr(snapshot_taking, "read_file", None)
    assert snapshots.take() == first
    assert Snapshots(tmp_path / "store", folder).take() == first
    fill(folder, {"in/a": "2"})
    with pytest.raises(TypeError):
        snapshots.take()


def test_a_file_that_becomes_a_pipe_meanwhile_is_not_waited_for(
    snapshots: Snapshots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"a": "1"})

    def too_late(path: str, most: int) -> object:
        Path(path).unlink()
        os.mkfifo(path)
        return read_file(path, most)

    monkeypatch.setattr(snapshot_taking, "read_file", too_late)
    assert reasons(snapshots, snapshots.take()) == {"a": "cannot be read (no file any more)"}


def test_two_threads_and_two_processes_may_take_at_once(tmp_path: Path, folder: Path) -> None:
    """What each of them got is whole."""
    fill(folder, {f"in{number % 5}/{number}": f"{number}" for number in range(200)})
    code = (
        "import sys; from pathlib import Path\n"
        "from jupyter_ccapi.claude.snapshots import Snapshots\n"
        "snapshots = Snapshots(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "for number in range(10):\n"
        "    (Path(sys.argv[2]) / sys.argv[3]).write_text(f'{number}')\n"
        "    print(snapshots.take()); snapshots.keep(sys.argv[3], [])\n"
    )
    store = tmp_path / "store"
    snapshots = Snapshots(store, folder, limits=SnapshotLimits(collect_seconds=0))
    found: list[str] = []
    others = [
        threading.Thread(target=lambda name=name: found.extend(run(code, *name).split()))
        for name in ((str(store), str(folder), f"by-{number}") for number in range(2))
    ]
    threads = [threading.Thread(target=lambda: found.append(snapshots.take())) for _ in range(4)]
    for one in (*others, *threads):
        one.start()
    for one in (*others, *threads):
        one.join()
    assert len(found) == 24
    empty = Snapshots(store, folder).take()
    for snapshot in found:
        assert kinds(snapshots, snapshot, empty).keys() <= {"by-0", "by-1"}


KILLED = """
import os, sys
from pathlib import Path
import pygit2
from jupyter_ccapi.claude import snapshot_repository
from jupyter_ccapi.claude.snapshots import Snapshots
count = 0
def dying(real):
    def call(*given, **more):
        global count
        count += 1
        if count == int(sys.argv[3]):
            # As when it was in the middle.
            next(Path(sys.argv[1]).glob("*.git")).joinpath("index.lock").write_text("")
            os.kill(os.getpid(), 9)
        return real(*given, **more)
    return call
pygit2.Index.add = dying(pygit2.Index.add)
pygit2.Index.write = dying(pygit2.Index.write)
pygit2.Index.write_tree = dying(pygit2.Index.write_tree)
point = snapshot_repository.SnapshotRepository._point
snapshot_repository.SnapshotRepository._point = dying(point)
Snapshots(Path(sys.argv[1]), Path(sys.argv[2])).take()
"""


@pytest.mark.parametrize("when", [1, 15, 31, 32, 33, 34])
def test_a_process_that_is_killed_leaves_a_store_that_works(
    tmp_path: Path, folder: Path, when: int
) -> None:
    """Wherever it was, and without a lock that stays."""
    fill(folder, {f"in/{number}": f"{number}" for number in range(30)})
    store = tmp_path / "store"
    arguments = [sys.executable, "-c", KILLED, str(store), str(folder), str(when)]
    died = subprocess.run(arguments, cwd=Path(__file__).parents[2], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    snapshots = Snapshots(store, folder)
    first = snapshots.take()
    shutil.rmtree(folder / "in")
    back(snapshots, first)
    assert len(state(folder)) == 30


def objects(store: Path) -> list[Path]:
    """Those in the only repository."""
    return sorted(store.glob("*.git/objects/??/*"))


def test_what_nobody_keeps_is_dropped(tmp_path: Path, folder: Path) -> None:
    """What another owner keeps is not, nor what the folder holds now."""
    at_once = SnapshotLimits(spared_seconds=0, collect_seconds=0)
    snapshots = Snapshots(tmp_path / "store", folder, limits=at_once)
    taken = []
    for number in range(6):
        fill(folder, {"a": f"{number}", f"in/{number}": f"in {number}"})
        taken.append(snapshots.take())
    before = objects(tmp_path / "store")
    another = Snapshots(tmp_path / "store", folder)
    another.keep("theirs", [taken[1]])
    snapshots.keep("mine", [taken[3], taken[4]])
    snapshots.keep("mine", [taken[4]])
    assert snapshots.owners() == ["mine", "theirs"]
    assert len(objects(tmp_path / "store")) < len(before)
    assert kinds(snapshots, taken[1], taken[4]).keys() == {"a", "in/2", "in/3", "in/4"}
    for gone in (taken[0], taken[2], taken[3]):
        with pytest.raises(ClaudeError, match="There is no snapshot"):
            snapshots.changes(gone, taken[4])
    assert snapshots.take() == taken[5]
    back(snapshots, taken[1])
    assert state(folder).keys() == {"a", "in/0", "in/1"}


def test_a_snapshot_that_was_taken_lately_is_spared(tmp_path: Path, folder: Path) -> None:
    """Another process may be about to keep it."""
    snapshots = Snapshots(
        tmp_path / "store", folder, limits=SnapshotLimits(spared_seconds=3600, collect_seconds=0)
    )
    first = snapshots.take()
    fill(folder, {"a": "1"})
    second = snapshots.take()
    snapshots.keep("mine", [second])
    assert kinds(snapshots, first, second) == {"a": "added"}


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files that changed just now count as old, so that they are not read again."""
    monkeypatch.setattr("jupyter_ccapi.claude.snapshot_walk._COARSE", -1_000_000_000)


def test_what_the_folder_holds_is_not_dropped(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are not read again, and so cannot be stored again."""
    settle(monkeypatch)
    at_once = SnapshotLimits(spared_seconds=0, collect_seconds=0)
    snapshots = Snapshots(tmp_path / "store", folder, limits=at_once)
    fill(folder, {"in/a": "1"})
    first = snapshots.take()
    snapshots.keep("mine", [])
    assert snapshots.take() == first
    shutil.rmtree(folder / "in")
    back(snapshots, first)
    assert state(folder) == {"in/a": ("file", b"1")}


def test_a_process_stores_again_what_another_has_dropped(tmp_path: Path, folder: Path) -> None:
    """Though it still has the repository open."""
    at_once = SnapshotLimits(spared_seconds=0, collect_seconds=0)
    one, other = (Snapshots(tmp_path / "store", folder, limits=at_once) for _ in range(2))
    fill(folder, {"in/a": "1", "b": "1"})
    one.take()
    (folder / "in").rename(tmp_path / "aside")
    other.take()
    other.keep("theirs", [])
    (tmp_path / "aside").rename(folder / "in")
    first = one.take()
    shutil.rmtree(folder / "in")
    back(one, first)
    assert state(folder) == {"b": ("file", b"1"), "in/a": ("file", b"1")}


def test_a_store_that_was_removed_is_made_anew(
    snapshots: Snapshots, folder: Path, tmp_path: Path
) -> None:
    """Its snapshots are gone with it, and that is said."""
    fill(folder, {"a": "1"})
    first = snapshots.take()
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(ClaudeError, match="There is no snapshot"):
        snapshots.not_covered(first)
    assert reasons(snapshots, snapshots.take()) == {}


@pytest.mark.parametrize(
    ("damaged", "content"),
    [("config", b"[\0"), ("index", b"nothing" * 100), ("refs/last", b"nothing")],
)
def test_a_damaged_store_is_named(
    snapshots: Snapshots, folder: Path, tmp_path: Path, damaged: str, content: bytes
) -> None:
    fill(folder, {"a": "1"})
    snapshots.take()
    snapshots.close()
    path = next((tmp_path / "store").glob("*.git"))
    (path / damaged).write_bytes(content)
    with pytest.raises(CannotSnapshot, match=f"{path.name}.*remove that folder"):
        snapshots.take()


def test_a_damaged_object_is_never_restored(
    snapshots: Snapshots, folder: Path, tmp_path: Path
) -> None:
    """What is there stays."""
    fill(folder, {"a": "1"})
    first = snapshots.take()
    blob = pygit2.hash(b"1")
    (path,) = (one for one in objects(tmp_path / "store") if str(blob).endswith(one.name))
    path.chmod(0o600)
    path.write_bytes(zlib.compress(b"blob 1\0" + b"3"))
    fill(folder, {"a": "2"})
    with pytest.raises(ClaudeError, match="missing or damaged"):
        snapshots.restore(first, ["a"], expected=None)
    assert state(folder) == {"a": ("file", b"2")}


@pytest.mark.parametrize("unknown", ["", "x", "0" * 40, "../../etc"])
def test_an_unknown_snapshot_is_said_to_be_none(snapshots: Snapshots, unknown: str) -> None:
    known = snapshots.take()
    calls: Mapping[str, Callable[[], object]] = {
        "not_covered": lambda: snapshots.not_covered(unknown),
        "changes": lambda: snapshots.changes(known, unknown),
        "diff": lambda: snapshots.diff(unknown, known),
        "restore": lambda: snapshots.restore(unknown, ["a"], expected=None),
        "expected": lambda: snapshots.restore(known, ["a"], expected=unknown),
    }
    for call in calls.values():
        with pytest.raises(ClaudeError, match=f"There is no snapshot {unknown!r}"):
            call()


def test_a_deep_folder_and_a_long_name_are_covered(snapshots: Snapshots, folder: Path) -> None:
    """As deep as libgit2 goes."""
    path = folder.joinpath(*["d"] * 99, "n" * 255)
    path.parent.mkdir(parents=True)
    path.write_text("1")
    first = snapshots.take()
    path.write_text("2")
    back(snapshots, first)
    assert path.read_text() == "1"


def test_what_is_deeper_than_libgit2_goes_is_left_out(snapshots: Snapshots, folder: Path) -> None:
    """As it would tell nothing at all of the workspace."""
    deep = folder.joinpath(*["d "] * 600)
    deep.mkdir(parents=True)
    fill(deep, {"a": "1"})
    fill(folder, {"a": "1"})
    first = snapshots.take()
    assert list(reasons(snapshots, first).values()) == ["more than 99 folders deep"]
    fill(deep, {"a": "2"})
    fill(folder, {"a": "2"})
    assert kinds(snapshots, first, snapshots.take()) == {"a": "modified"}


def test_what_jupyterlab_keeps_of_notebooks_is_left_alone(
    snapshots: Snapshots, folder: Path
) -> None:
    """It writes a copy at each save: that is nobody's change, and is not put back."""
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "a-checkpoint.ipynb").write_text("1")
    before = snapshots.take()
    (folder / ".ipynb_checkpoints" / "a-checkpoint.ipynb").write_text("2")
    after = snapshots.take()
    assert snapshots.changes(before, after) == []
    assert [one.path for one in snapshots.not_covered(after)] == [".ipynb_checkpoints"]
