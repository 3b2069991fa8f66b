"""A unified diff, as a person reads it."""

import re
from html import unescape

from jupyter_ccapi.notebook import diffs, looks

ONE = """--- a/src/clean.py
+++ b/src/clean.py
@@ -12,3 +12,4 @@ def load(path):
 frame = read(path)
-frame = frame.dropna()
+count = len(frame)
+frame = frame.dropna(<b>)
 return frame
"""
TWO = """diff --git a/old.sql b/old.sql
deleted file mode 100644
index 3b18e51..0000000
--- a/old.sql
+++ /dev/null
@@ -1,2 +0,0 @@
--- a comment
-+++ another
diff --git a/new.py b/new.py
new file mode 100644
--- /dev/null
+++ b/new.py\t2026-01-01
@@ -0,0 +1 @@
+x = 1
\\ No newline at end of file
"""


def words(html: str) -> str:
    """What a person reads of HTML."""
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<div[ >]", r"\n\g<0>", html)))


def test_a_diff_is_read_line_by_line() -> None:
    """The signs are apart from the text; a hunk is known by its first line."""
    assert [(line.kind, line.text) for line in diffs.read(ONE)] == [
        ("file", "src/clean.py"),
        ("hunk", "line 12 · def load(path):"),
        ("context", "frame = read(path)"),
        ("removed", "frame = frame.dropna()"),
        ("added", "count = len(frame)"),
        ("added", "frame = frame.dropna(<b>)"),
        ("context", "return frame"),
    ]
    assert diffs.counts(ONE) == (2, 1)
    assert diffs.signs(ONE) == "+2 -1"
    assert diffs.signs("") == ""


def test_lines_that_look_like_headers_are_lines() -> None:
    """A removed SQL comment begins with three dashes; the hunk says that it is one of its lines."""
    assert [(line.kind, line.text) for line in diffs.read(TWO)] == [
        ("note", "deleted file mode 100644"),
        ("file", "old.sql"),
        ("hunk", ""),
        ("removed", "-- a comment"),
        ("removed", "+++ another"),
        ("note", "new file mode 100644"),
        ("file", "new.py"),
        ("hunk", ""),
        ("added", "x = 1"),
        ("note", "No newline at end of file"),
    ]


def test_html_has_colours_and_is_escaped() -> None:
    """The colours are in each line; nothing of the file becomes HTML."""
    html = diffs.html(ONE)

    assert "dropna(&lt;b&gt;)" in html
    assert "<b>" not in html
    assert html.count(looks.ADDED) == 2
    assert html.count(looks.REMOVED) == 1
    assert "src/clean.py" in html
    assert "src/clean.py" not in diffs.html(ONE, names=False)


def test_what_is_copied_from_html_is_the_diff() -> None:
    """A line is its sign and its text, nothing between."""
    lines = words(diffs.html(ONE, names=False)).split("\n")[-5:]

    assert lines == ONE.rstrip("\n").split("\n")[-5:]


def test_text_is_the_unified_diff_itself() -> None:
    """Colours only where a terminal has them."""
    assert diffs.text(ONE) == ONE.rstrip("\n")
    coloured = diffs.text(ONE, colours=True)
    assert "\x1b[32m+count = len(frame)\x1b[0m" in coloured
    assert "\x1b[31m-frame = frame.dropna()\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == diffs.text(ONE)


def test_a_long_diff_says_what_is_left_out() -> None:
    """Its beginning and its end are shown, and all of it is counted."""
    lines = "\n".join(f"+line {number}" for number in range(1000))
    diff = f"--- a/x\n+++ b/x\n@@ -0,0 +1,1000 @@\n{lines}\n"

    assert diffs.signs(diff) == "+1,000"
    for shown in (diffs.html(diff), diffs.text(diff)):
        assert "line 0" in shown
        assert "line 999" in shown
        assert "line 500" not in shown
        assert "… 802 lines left out …" in shown


def test_control_characters_neither_show_nor_hide() -> None:
    """A carriage return cannot take a line's sign away; what turns the text is spelled out."""
    diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+\x1b[31mb\rc\u202ed\n"

    assert [line.text for line in diffs.read(diff)][-2:] == ["a", "bc<U+202E>d"]


def test_a_diff_that_is_cut_off_is_shown_as_far_as_it_goes() -> None:
    """Its hunk says more lines than there are, and a note follows."""
    diff = "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n a\n+b\n\\ 7 more lines are not shown\n"

    kinds = [line.kind for line in diffs.read(diff)]
    assert kinds[:5] == ["file", "hunk", "context", "added", "note"]
    assert diffs.counts(diff) == (1, 0)
