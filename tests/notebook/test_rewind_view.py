"""What a person reads of a rewind."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from jupyter_ccapi.claude.changes import FileChange, NotCovered
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.record import Checkpoint
from jupyter_ccapi.claude.snapshots import Snapshots
from jupyter_ccapi.notebook import rewind_view
from jupyter_ccapi.notebook.rewound import Rewound


def unified(files: Mapping[str, tuple[bytes | None, bytes | None]]) -> str:
    """The diff of files from one version to another, as snapshots tell it."""
    with TemporaryDirectory() as place:
        folder = Path(place, "work")
        snapshots = Snapshots(Path(place, "store"), folder)
        taken = []
        for version in (0, 1):
            for name, versions in files.items():
                content, path = versions[version], folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                if content is not None:
                    path.write_bytes(content)
            taken.append(snapshots.take())
        return snapshots.diff(*taken)


PROMPTS = (
    Checkpoint(3, 1.0, "make it <b>fast</b>", "s3"),
    Checkpoint(4, 2.0, "now test it", "s4"),
)
FILES = (
    FileChange("fig.png", "added", 0, 0, binary=True),
    FileChange("src/a b.py", "modified", 1, 1, binary=False),
    FileChange("src/new.py", "deleted", 0, 2, binary=False),
)
DIFF = unified(
    {
        "fig.png": (None, b"\0"),
        "src/a b.py": (b"a = 1\nb = 1\n", b"a = 1\nb = 2\n"),
        "src/new.py": (b"x = '<i>'\n--- y\n", None),
    }
)
PLAN = Plan(
    3,
    "make it <b>fast</b>",
    files=FILES,
    kept=(("n.ipynb", "it is open: reload it from disk to see what is saved"),),
    not_covered=(
        NotCovered("vendor/lib", "a nested repository"),
        NotCovered(".venv", "ignored"),
        NotCovered("data", "ignored"),
    ),
    diff=DIFF,
    undone=PROMPTS,
    variables=("df", "model"),
)


def told(html: str) -> str:
    """The text of HTML, a line for each element that stands by itself."""
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<(div|pre|summary)[ >]", r"\n\g<0>", html)))


def test_a_rewind_that_was_done_says_it_all() -> None:
    """Files, what stays and why, prompts, variables, what to reload, and what was not covered."""
    assert rewind_view.text(PLAN, done=True).split("\n") == [
        "Rewound to before prompt 3 (“make it <b>fast</b>”)",
        "  added     fig.png  binary",
        "  modified  src/a b.py  +1 -1",
        "  deleted   src/new.py  -2",
        "Left as they are:",
        "  n.ipynb: it is open: reload it from disk to see what is saved",
        "Prompts undone: 3 “make it <b>fast</b>” · 4 “now test it”",
        "Variables set by the undone turns are stale: df, model",
        "An editor in which one of these files is open shows it as it was: reload it from disk.",
        "Not covered: ignored (2), vendor/lib (a nested repository)",
    ]


def test_a_rewind_that_is_looked_at_shows_the_diff() -> None:
    """As text below the rest, in colours for a terminal."""
    shown = rewind_view.text(PLAN, done=False, colours=True)
    assert shown.startswith("A rewind to before prompt 3 (“make it <b>fast</b>”) would do this:\n")
    assert "Prompts to undo: 3" in shown
    assert "Variables set by these turns would be stale: df, model" in shown
    assert "\x1b[32m+b = 2\x1b[0m" in shown
    assert "reload it from disk." not in shown.replace(PLAN.kept[0][1], "")
    assert "+b = 2" not in rewind_view.text(PLAN, done=True)


def test_each_file_unfolds_to_its_own_diff() -> None:
    """A line of code that looks like a header of the diff does not begin another file."""
    html = rewind_view.html(PLAN, done=False)
    files = [part for part in html.split("<details")[1:] if "<pre" in part]
    assert len(files) == 3
    assert "Binary files" in told(files[0])
    assert re.search(r"modified src/a b.py \+1 -1\n", told(files[1]))
    assert "b = 2" in told(files[1])
    assert "--- y" not in told(files[1])
    assert "--- y" in told(files[2])


def test_what_others_wrote_is_never_html() -> None:
    """Prompts, names and lines are shown as they are."""
    odd = replace(
        PLAN,
        files=(FileChange("<i>.py", "deleted", 0, 1, binary=False),),
        diff=unified({"<i>.py": (b"<i>\n", None)}),
        kept=(("<i>", "<i>"),),
        conflicts=("<i>",),
        not_covered=(NotCovered("<i>", "<i>"),),
        note="<i>",
        variables=("<i>",),
    )
    for done in (True, False):
        html = rewind_view.html(odd, done=done)
        assert "<i>" not in html
        assert "<b>" not in html
        assert "\u202e" not in rewind_view.html(replace(odd, conflicts=("a\u202eb",)), done=done)


def test_conflicts_say_that_nothing_is_done() -> None:
    """And how it can be."""
    shown = rewind_view.text(replace(PLAN, conflicts=("x.py", "y.py")), done=False)
    assert shown.split("\n")[:2] == [
        "A rewind to before prompt 3 (“make it <b>fast</b>”) would be refused:",
        "Changed by another hand after Claude's change: x.py, y.py. Nothing is done unless that is "
        "overwritten (force), or the conversation alone is rewound.",
    ]


@pytest.mark.parametrize(
    ("done", "first", "prompts"),
    [
        (True, "The rewind to before prompt 3 was taken back", "Prompts that are back: 3"),
        (
            False,
            "Taking back the rewind to before prompt 3 would do this:",
            "Prompts that come back: 3",
        ),
    ],
)
def test_an_undo_says_what_comes_back(done: bool, first: str, prompts: str) -> None:
    """Its prompts, and that no file changes where none does."""
    lines = str(Rewound(Plan(3, "", returns=PROMPTS), done=done, undo=True)).split("\n")
    assert lines[0] == first
    assert lines[1] == ("No file changed." if done else "No file changes.")
    assert lines[2].startswith(prompts)


def test_where_claude_codes_own_checkpoints_stand_in_that_is_said() -> None:
    """With the files, of which nothing more is known."""
    plan = Plan(
        1,
        "begin",
        note="It is a home folder. Claude Code's own checkpoints stand in.",
        own=(Path("/home/ann/x.py"),),
        not_covered=(NotCovered(".", "the folder cannot be snapshotted"),),
    )
    for shown in (rewind_view.text(plan, done=True), told(rewind_view.html(plan, done=True))):
        assert "It is a home folder. Claude Code's own checkpoints stand in." in shown
        assert "/home/ann/x.py" in shown
        assert "Not covered: the folder cannot be snapshotted" in shown
        assert "No file" not in shown


def test_what_is_endless_is_counted() -> None:
    """Thousands of files, reasons, prompts and variables do not drown the rest."""
    many = [f"f{number:04}" for number in range(2_000)]
    plan = Plan(
        1,
        "begin",
        files=tuple(FileChange(name, "added", 1, 0, binary=False) for name in many),
        kept=tuple((name, "changed by another hand only") for name in many),
        conflicts=tuple(many),
        not_covered=tuple(NotCovered(name, "ignored") for name in many),
        diff=unified(dict.fromkeys(many, (None, b"x\n"))),
        undone=tuple(Checkpoint(number + 1, 0.0, "again", "s") for number in range(2_000)),
        variables=tuple(many),
    )
    text, html = rewind_view.text(plan, done=True), rewind_view.html(plan, done=True)
    assert text.count("… and 1,950 more") == 5
    assert len(text.split("\n")) < 200
    assert "… and 1,950 more files" in html
    assert "ignored (2,000)" in html
    assert len(html) < 150_000
