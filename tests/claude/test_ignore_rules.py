"""What is ignored is what git ignores: said by examples, and compared with git itself."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from jupyter_ccapi.claude.ignore_rules import Patterns, rules_for

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="compares with git")


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("*.log", "a.log", True),
        ("*.log", "deep/in/a.log", True),
        ("/a.log", "deep/a.log", False),
        ("doc/*.txt", "doc/a.txt", True),
        ("doc/*.txt", "doc/in/a.txt", False),
        ("doc/**/a", "doc/a", True),
        ("doc/**/a", "doc/x/y/a", True),
        ("**/a/b", "x/a/b", True),
        ("a/**", "a/x/y", True),
        ("a/**", "a", False),
        ("build/", "build", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("[]a]", "]", True),
        ("[[:digit:]]", "7", True),
        ("[[:nonsense:]]", "7", False),
        ("[a", "[a", False),
        (r"\!a", "!a", True),
        (r"\#a", "#a", True),
        ("#a", "#a", False),
        ("a ", "a", True),
        ("a\\ ", "a ", True),
        ("a\r\n", "a", True),
        ("\ufeffa", "a", True),
        ("a\\", "a\\", False),
        ("a\n!a", "a", False),
        ("!a\na", "a", True),
        ("/", "a", False),
        ("a\nb", "a\nb", False),
        ("a*", "a\nb", True),
    ],
)
def test_a_file_is_ignored_by_a_pattern(pattern: str, path: str, ignored: bool) -> None:
    found = Patterns(pattern.encode()).verdict(path.encode(), is_folder=False)
    assert bool(found) is ignored


def test_a_pattern_with_a_slash_at_its_end_is_for_folders_alone() -> None:
    patterns = Patterns(b"build/\n")
    assert patterns.verdict(b"build", is_folder=True) is True
    assert patterns.verdict(b"in/build", is_folder=True) is True
    assert patterns.verdict(b"build", is_folder=False) is None


def test_the_nearest_file_decides(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "in" / ".gitignore").write_text("!kept.log\n")
    top = rules_for(tmp_path)
    below = top.below("in", tmp_path / "in" / ".gitignore")
    assert top.ignores("kept.log", is_folder=False)
    assert not below.ignores("kept.log", is_folder=False)
    assert below.ignores("other.log", is_folder=False)


def test_a_repository_around_the_folder_counts(tmp_path: Path) -> None:
    """Up to its top, and no further."""
    folder = tmp_path / "repository" / "a" / "b"
    (tmp_path / "repository" / ".git" / "info").mkdir(parents=True)
    folder.mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("outside\n")
    (tmp_path / "repository" / ".git" / "info" / "exclude").write_text("excluded\n")
    (tmp_path / "repository" / ".gitignore").write_text("/a/b/anchored\n/anchored2\n")
    (tmp_path / "repository" / "a" / ".gitignore").write_text("above\n")
    rules = rules_for(folder)
    names = ["outside", "excluded", "anchored", "anchored2", "above", "other"]
    ignored = [name for name in names if rules.ignores(name, is_folder=False)]
    assert ignored == ["excluded", "anchored", "above"]


def test_a_repository_that_ignores_the_whole_folder_does_not_count(tmp_path: Path) -> None:
    """Who works in a scratch folder, or below a home folder under git, means its files."""
    folder = tmp_path / "scratch" / "in"
    (tmp_path / ".git").mkdir()
    folder.mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("scratch/\n*.csv\n")
    (folder / ".gitignore").write_text("*.log\n")
    rules = rules_for(folder)
    assert not rules.ignores("a.csv", is_folder=False)
    assert rules.ignores("a.log", is_folder=False)


def test_the_excludes_of_a_worktree_are_found(tmp_path: Path) -> None:
    """Its `.git` is a file that names a folder, which names another."""
    own = tmp_path / "main" / ".git" / "worktrees" / "w"
    (tmp_path / "main" / ".git" / "info").mkdir(parents=True)
    own.mkdir(parents=True)
    (tmp_path / "main" / ".git" / "info" / "exclude").write_text("excluded\n")
    (own / "commondir").write_text("../..\n")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".git").write_text(f"gitdir: {own}\n")
    assert rules_for(tmp_path / "w").ignores("excluded", is_folder=False)


def test_a_link_is_not_followed_for_patterns(tmp_path: Path) -> None:
    """As git does not."""
    (tmp_path / "patterns").write_text("a\n")
    (tmp_path / ".gitignore").symlink_to("patterns")
    assert not rules_for(tmp_path).ignores("a", is_folder=False)


NAMES = some.sampled_from(["a", "b", "ab", "a.b", "-", "]", "a b", "é", "!", "#", "[", "\\", "a "])
PLAIN = ["a", "b", "/", "/", ".", "-", " ", "é", "!", "#"]
WILD = ["*", "**", "***", "?", "[ab]", "[!a]", "[a-z]", "[]-a]", "[^/]", "[[:alpha:]]", "[\\]]"]
BROKEN = ["[a", "]", "\\", "\\a", "\\*", "[[:x:]]", "[[:alpha]"]
PIECES = some.sampled_from([*PLAIN, *WILD, *BROKEN])
LINES = some.lists(PIECES, min_size=1, max_size=6).map("".join)


@needs_git
@settings(max_examples=150, deadline=None)
@given(
    lines=some.lists(LINES, max_size=4),
    inner=some.lists(LINES, max_size=2),
    files=some.lists(some.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=12),
)
def test_git_says_the_same(lines: list[str], inner: list[str], files: list[list[str]]) -> None:
    """For any patterns, at the top and in a folder `a`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        for names in files:
            path = folder.joinpath(*names)
            if not path.exists() and not any(one.is_file() for one in path.parents):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        (folder / ".gitignore").write_text("\n".join(lines))
        if (folder / "a").is_dir():
            (folder / "a" / ".gitignore").write_text("\n".join(inner))
        assert ours(folder) == gits(folder)


def ours(folder: Path) -> set[str]:
    """The files that are not ignored."""
    found = set()
    waiting = [(folder, rules_for(folder))]
    while waiting:
        place, rules = waiting.pop()
        for one in place.iterdir():
            if not rules.ignores(one.name, is_folder=one.is_dir()):
                if one.is_dir():
                    waiting.append((one, rules.below(one.name, one / ".gitignore")))
                else:
                    found.add(one.relative_to(folder).as_posix())
    return found


def gits(folder: Path) -> set[str]:
    """The same, by git."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    with tempfile.TemporaryDirectory() as private:
        where = ["git", f"--git-dir={private}", f"--work-tree={folder}"]
        subprocess.run(["git", "init", "-q", "--bare", private], env=environment, check=True)
        listed = subprocess.run(
            [*where, "-c", "core.bare=false", "ls-files", "-o", "-z", "--exclude-standard"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        ).stdout
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}
