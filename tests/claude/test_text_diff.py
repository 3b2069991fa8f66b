"""Diffs of two versions: what git would apply, counted right, and soon even for long files."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from jupyter_ccapi.claude.text_diff import Side, changed_blocks, count, is_binary, unified

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git applies the diff")

FILE, PROGRAM, LINK = 0o100644, 0o100755, 0o120000
LINES = some.lists(some.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d\r\n", b"e"]), max_size=30)


def test_a_change_is_shown_with_three_lines_around_it() -> None:
    old = b"".join(b"%d\n" % number for number in range(1, 21))
    new = old.replace(b"10\n", b"ten\nmore\n")
    assert unified("a/file.py", Side(FILE, old), Side(FILE, new)) == (
        "diff --git a/a/file.py b/a/file.py\n"
        "--- a/a/file.py\n"
        "+++ b/a/file.py\n"
        "@@ -7,7 +7,8 @@\n 7\n 8\n 9\n-10\n+ten\n+more\n 11\n 12\n 13\n"
    )
    assert count(old, new) == (2, 1)


def test_a_new_file_and_a_deleted_one() -> None:
    text = Side(PROGRAM, b"x")
    assert unified("f", None, text) == (
        "diff --git a/f b/f\nnew file mode 100755\n--- /dev/null\n+++ b/f\n"
        "@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
    )
    assert unified("f", text, None) == (
        "diff --git a/f b/f\ndeleted file mode 100755\n--- a/f\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n"
    )


def test_a_change_of_the_mode_alone() -> None:
    assert unified("f", Side(FILE, b"x"), Side(PROGRAM, b"x")) == (
        "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n"
    )


def test_binary_files_are_said_to_differ() -> None:
    old, new = Side(FILE, b"\0a"), Side(FILE, b"b")
    assert unified("f", old, new).endswith("Binary files a/f and b/f differ\n")
    assert unified("f", None, old).endswith("Binary files /dev/null and b/f differ\n")
    assert is_binary(b"text\0")
    assert not is_binary("é".encode())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b", "a/a b"),
        ("é", "a/é"),
        ("a\nb", '"a/a\\nb"'),
        ('"', '"a/\\""'),
        ("\udcff", '"a/\\377"'),
        ("\x1b", '"a/\\033"'),
        ("\\", '"a/\\\\"'),
    ],
)
def test_names_that_would_break_a_line_are_quoted(name: str, shown: str) -> None:
    """As git quotes them, so that no name can pass for a line of the diff."""
    assert f"--- {shown}\n" in unified(name, Side(FILE, b"x"), None)


def test_bytes_that_are_no_text_are_shown_somehow() -> None:
    assert "-\ufffd\n" in unified("f", Side(FILE, b"\xff\n"), Side(FILE, b""))


@given(old=LINES.map(b"".join), new=LINES.map(b"".join))
@example(old=b"a\na\nb\n", new=b"b\na\na\n")
def test_blocks_say_all_that_changed_and_nothing_else(old: bytes, new: bytes) -> None:
    one, other = old.splitlines(keepends=True), new.splitlines(keepends=True)
    made: list[bytes] = []
    at = 0
    for block in changed_blocks(one, other):
        assert len(made) + block.start - at == block.begin
        made += one[at : block.start] + other[block.begin : block.stop]
        at = block.end
    assert made + one[at:] == other


@needs_git
@settings(max_examples=60, deadline=None)
@given(old=LINES.map(b"".join), new=LINES.map(b"".join), program=some.booleans())
def test_git_applies_it(old: bytes, new: bytes, program: bool) -> None:
    """And the new version comes of it."""
    mode = PROGRAM if program else FILE
    text = unified("a b", Side(FILE, old), Side(mode, new))
    if (old, FILE) == (new, mode):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a b")
        path.write_bytes(old)
        subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            input=text.encode(),
            cwd=folder,
            env={"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": "/"},
            check=True,
        )
        assert path.read_bytes() == new
        assert bool(path.stat().st_mode & 0o100) is program


def test_a_few_changes_in_a_long_file_are_counted_as_such() -> None:
    """Though half of its lines are there many times."""
    old = [b"row %d\n" % (number if number % 2 else number % 8) for number in range(100_000)]
    new = [*old]
    new[0], new[50_000], new[-1] = b"first\n", b"middle\n", b"last\n"
    assert count(b"".join(old), b"".join(new)) == (3, 3)


@pytest.mark.timeout(30)
def test_files_without_any_line_of_their_own_are_compared_soon() -> None:
    """Where every line is there thousands of times, on both sides."""
    old = b"".join(b"%d\n" % (number % 7) for number in range(60_000))
    new = b"".join(b"%d\n" % (number % 5) for number in range(60_000))
    inserted, deleted = count(old, new)
    assert inserted == deleted > 30_000


@pytest.mark.timeout(30)
def test_very_long_files_are_counted_by_what_is_new_in_them() -> None:
    """And so lines that have only moved do not count."""
    old = [b"a line that is long enough: %d\n" % number for number in range(200_000)]
    new = [*old[100:], b"more\n", b"more\n", *old[:99]]
    assert count(b"".join(old), b"".join(new)) == (2, 1)
