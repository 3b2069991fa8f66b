"""The card of a tool call, from the call's events alone."""

import re
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude import PermissionRequest, PermissionResolved, ToolCall, ToolResult
from jupyter_ccapi.notebook import cards, rendering
from jupyter_ccapi.notebook.cards import Card

FOLDER = Path("/home/ann/project")
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
DIFF = "--- a/src/x.py\n+++ b/src/x.py\n@@ -3 +3,2 @@\n-a = 1\n+a = 2\n+b = 3\n"


def card(name: str, /, **given: Any) -> Card:
    """The card of a call that runs."""
    return Card.begun(ToolCall("t1", name, given), FOLDER)


def done(running: Card, content: Any = "", *, error: bool = False, diff: str = "") -> Card:
    """The card when the tool has answered, after 0.34 seconds."""
    return running.answered(ToolResult("t1", content, error, diff or None), 0.34)


def asked(diff: str | None = None) -> PermissionRequest:
    """The question whether it may run."""
    return PermissionRequest("t1", "Bash", {}, "Claude wants to use Bash.", "", diff, "Bash(ls)")


def denied(reason: str) -> PermissionResolved:
    """The answer no."""
    return PermissionResolved("t1", "deny", "once", reason)


def html(shown: Card) -> str:
    """The card's HTML."""
    return cards.bundle(shown)["text/html"]


def unfolded(shown: Card) -> str:
    """What a person reads of a card below its line."""
    below = html(shown).partition("</summary>")[2]
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<(div|pre)[ >]", r"\n\g<0>", below)))


@pytest.mark.parametrize(
    ("running", "line"),
    [
        (card("Bash", command="ls -l", description="List"), "Bash  ls -l"),
        (card("Bash", command="for x in *; do\n  echo $x\ndone"), "Bash  for x in *; do …"),
        (card("Read", file_path="/home/ann/project/src/x.py"), "Read  src/x.py"),
        (card("Read", file_path="/etc/hosts"), "Read  /etc/hosts"),
        (card("Read", file_path="x.py", offset=10, limit=40), "Read  x.py, lines 10 to 49"),
        (card("Read", file_path="x.py", offset=10), "Read  x.py, from 10"),
        (card("Grep", pattern="a b", path="/home/ann/project/src"), "Grep  a b in src"),
        (card("Glob", pattern="**/*.py"), "Glob  **/*.py"),
        (
            card("WebFetch", url="https://example.org", prompt="What?"),
            "WebFetch  https://example.org",
        ),
        (card("WebSearch", query="utc dates"), "WebSearch  utc dates"),
        (card("Task", description="Find it", prompt="Find all."), "Task  Find it"),
        (card("mcp__github__search", q="dates", limit=5), "github: search  dates 5"),
        (card("mcp__client__run_python", code="df.plot()"), "run_python  df.plot()"),
        (card("run_python", code="\ndf.plot()\ndf"), "run_python  df.plot() …"),
        (card("AskUserQuestion", questions=[{"question": "Which?"}]), "AskUserQuestion  Which?"),
        (
            card("TodoWrite", todos=[{"content": "A", "status": "completed"}]),
            "TodoWrite  1 of 1 done",
        ),
        (card("Odd", data={"a": [1]}), "Odd"),
        (card("Odd", command=["ls"], file_path=None), "Odd"),
    ],
)
def test_one_line_says_what_a_call_is_about(running: Card, line: str) -> None:
    """Files as seen from the notebook's folder; of several lines the first."""
    assert cards.line(running) == f"● {line}  running…"
    summary = html(running).partition("</summary>")[0]
    assert unescape(re.sub(r"<[^>]*>", "", summary)) == line.replace("  ", "") + "running…"


def test_a_line_says_how_the_call_goes() -> None:
    """Running, waiting for an answer, then how it ended and after how long."""
    running = card("Bash", command="ls")
    waiting = running.asked(asked())

    assert cards.line(waiting) == "● Bash  ls  waiting for your answer"
    assert waiting.resolved(PermissionResolved("t1", "allow", "once", "")) == running
    assert cards.line(done(running)) == "● Bash  ls  ok 0.3 s"
    assert cards.line(done(running, error=True)) == "● Bash  ls  failed 0.3 s"
    assert cards.line(waiting.resolved(denied("Not now."))) == "● Bash  ls  denied: Not now."
    assert cards.line(waiting.resolved(denied(""))) == "● Bash  ls  denied"
    assert cards.line(running.ended()) == "● Bash  ls  stopped"
    assert cards.line(replace(done(running), seconds=0.01)) == "● Bash  ls  ok"
    assert done(running).ended() == done(running)


def test_a_denied_call_stays_denied_when_the_model_is_told() -> None:
    """The result of it is for the model; the reason is what a person gave."""
    refused = card("Bash", command="rm x").asked(asked()).resolved(denied("I need it."))

    assert done(refused, "The user does not want this.", error=True) == refused
    assert refused.refused() == refused
    assert "Denied: I need it." in unfolded(refused)


def test_a_call_that_a_rule_denied_shows_what_the_model_was_told() -> None:
    """There nobody gave a reason."""
    refused = done(card("Bash", command="rm x"), "No permission for Bash.", error=True).refused()

    assert cards.text(refused) == "● Bash  rm x  denied\n    No permission for Bash."
    assert "No permission for Bash." in unfolded(refused)


def test_bash_unfolds_to_its_command_and_output() -> None:
    """Without a terminal's colours, and of a progress bar the last state."""
    output = "\x1b[32mgreen\x1b[0m\r\n 10%\r 50%\r100%\nend\n"
    shown = done(card("Bash", command="make\nmake test", description="Build it"), output)

    assert unfolded(shown).split("\n")[-5:] == ["$ make", "make test", "green", "100%", "end"]
    assert "Build it" in unfolded(shown)
    assert cards.text(shown) == "● Bash  make …  ok 0.3 s"


def test_an_edit_unfolds_to_its_diff() -> None:
    """Its line counts what was added and removed; as text it is the unified diff."""
    shown = done(card("Edit", file_path="/home/ann/project/src/x.py"), "Updated.", diff=DIFF)

    assert "+2</span>" in html(shown)
    assert "-1</span>" in html(shown)
    assert unfolded(shown).split("\n")[-4:] == ["⋯ line 3", "-a = 1", "+a = 2", "+b = 3"]
    assert "Updated." not in html(shown)
    assert cards.text(shown).split("\n") == [
        "● Edit  src/x.py  +2 -1  ok 0.3 s",
        *(f"    {line}" for line in DIFF.rstrip("\n").split("\n")),
    ]


def test_an_edit_shows_what_it_would_do_before_it_is_done() -> None:
    """From its input; then from the question; and when it fails, why."""
    running = card("Edit", file_path="x.py", old_string="a\nb", new_string="a\nc")

    assert unfolded(running).split("\n")[-3:] == [" a", "-b", "+c"]
    assert "+b = 3" in unfolded(running.asked(asked(DIFF)))
    failed = done(running, "<tool_use_error>String not found.</tool_use_error>", error=True)
    assert "+c" in unfolded(failed)
    assert unfolded(failed).endswith("\nString not found.")
    assert cards.line(running) == "● Edit  x.py  +1 -1  running…"
    assert cards.text(failed) == "● Edit  x.py  failed 0.3 s\n    String not found."


@pytest.mark.parametrize(
    ("running", "lines"),
    [
        (card("Write", file_path="x.py", content="a\nb\n"), ["+a", "+b"]),
        (card("NotebookEdit", notebook_path="x.ipynb", new_source="a"), ["+a"]),
        (
            card("MultiEdit", file_path="x", edits=[{"old_string": "a", "new_string": "b"}]),
            ["-a", "+b"],
        ),
    ],
)
def test_every_kind_of_edit_is_a_diff(running: Card, lines: list[str]) -> None:
    """A new text is all added."""
    assert unfolded(running).split("\n")[-len(lines) :] == lines


def test_a_huge_edit_is_shown_at_once() -> None:
    """All of the old and all of the new, trimmed: comparing them would take minutes."""
    lines = [f"line {number}" for number in range(20_000)]
    old, new = "\n".join(lines), "\n".join(reversed(lines))
    began = time.monotonic()
    shown = card("Edit", file_path="x.py", old_string=old, new_string=new)

    assert cards.line(shown) == "● Edit  x.py  +20,000 -20,000  running…"
    assert len(html(shown)) < 50_000
    assert time.monotonic() - began < 10


def test_a_list_of_things_to_do_is_a_checklist() -> None:
    """The line says how far it is and what is done now."""
    todos = [
        {"content": "Read", "status": "completed", "activeForm": "Reading"},
        {"content": "Write", "status": "in_progress", "activeForm": "Writing"},
        {"content": "Rest", "status": "pending", "activeForm": "Resting"},
    ]
    shown = done(card("TodoWrite", todos=todos), "Todos have been modified.")

    assert unfolded(shown).split("\n")[-3:] == ["☑ Read", "◐ Writing", "☐ Rest"]
    assert cards.text(shown).split("\n") == [
        "● TodoWrite  1 of 3 done · Writing  ok 0.3 s",
        "    ☑ Read",
        "    ◐ Writing",
        "    ☐ Rest",
    ]


def test_any_other_call_unfolds_to_its_whole_input_and_result() -> None:
    """Text of several lines as it is, all else as JSON."""
    shown = done(
        card("mcp__x__y", prompt="one\ntwo", limit=5, tags=["a"]),
        [{"type": "text", "text": "found"}, {"type": "tool_reference", "tool_name": "z"}],
    )

    assert unfolded(shown).split("\n")[2:] == [
        "prompt:",
        "  one",
        "  two",
        "limit: 5",
        "tags:",
        "  [",
        '    "a"',
        "  ]",
        "found",
        "z",
    ]


@pytest.mark.parametrize(
    "block",
    [
        {"source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"mimeType": "image/png", "data": PIXEL},
    ],
)
def test_pictures_in_a_result_are_shown_in_the_fold(block: dict[str, Any]) -> None:
    """In the shapes of Anthropic's API and of MCP; a fold does not move what is below it."""
    shown = done(card("Read", file_path="x.png"), [{"type": "image", **block}])

    line, _, below = html(shown).partition("</summary>")
    assert f'<img src="data:image/png;base64,{PIXEL}"' in below
    assert PIXEL not in line
    assert html(shown).startswith("<details ")
    assert "<details open" not in html(shown)
    assert PIXEL not in cards.text(shown)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/svg+xml", PIXEL),
        ("image/png", "A" * 2_000_001),
        ("image/png", '"><script>alert(1)</script>'),
        ('"><script>alert(1)</script>', PIXEL),
    ],
)
def test_a_picture_that_cannot_be_kept_is_only_named(kind: str, data: str) -> None:
    """Too large, of a kind that can act, or no picture at all."""
    block = {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    shown = done(card("Read", file_path="x"), [block])

    assert "<img" not in html(shown)
    assert "<script>" not in html(shown)
    assert f"[{kind}, not shown]" in unfolded(shown)


def test_a_long_output_is_left_out_in_the_middle_and_that_is_said() -> None:
    """A notebook is not to grow by megabytes."""
    lines = "\n".join(f"row {number}" for number in range(1000))
    long = "x" * 1_000_000

    shown = unfolded(done(card("Bash", command="cat x"), lines)).split("\n")
    assert shown[-201:-99] == [
        *(f"row {number}" for number in range(100)),
        "… 800 lines left out …",
        "row 900",
    ]
    assert shown[-1] == "row 999"
    one = unfolded(done(card("Bash", command="cat x"), long))
    assert "… 998,000 characters left out …" in one
    several = unfolded(done(card("Bash", command="cat x"), "\n".join([long] * 20)))
    assert "… 12 lines left out …" in several
    assert len(html(done(card("Bash", command=long), "\n".join([long] * 20)))) < 30_000


EVIL = "</summary></details><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


class Tags(HTMLParser):
    """Which tags, attributes and styles there are in HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles: set[tuple[str, str]] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        for name, value in attrs:
            if name == "style":
                declarations = (value or "").rstrip("; ").split(";")
                pairs = [one.partition(":") for one in declarations]
                self.styles |= {(key.strip(), said.strip()) for key, _, said in pairs}


def kinds_of_cards(text: str) -> list[Card]:
    """Cards of every kind, with a text wherever others put one."""
    question = replace(asked(), diff=f"--- a/{text}\n+++ b/{text}\n@@ -1 +1 @@\n-{text}\n+{text}")
    return [
        done(card("Bash", command=text, description=text), text),
        done(card("Read", file_path=text), [{"type": "text", "text": text}], error=True),
        done(card(text, **{text: text, "b": [text]}), [{"type": text, text: text}]),
        done(card("Edit", file_path=text, old_string="", new_string=text)),
        done(card("Read", file_path="x"), [{"mimeType": "image/png", "data": PIXEL}]),
        done(card("Read", file_path="x"), [{"mimeType": text, "data": text}]),
        card("Edit", file_path=text).asked(question),
        card("Bash", command=text).resolved(denied(text)),
        card("TodoWrite", todos=[{"content": text, "status": text}]),
        card("TodoWrite", todos=[{"content": text, "status": "in_progress", "activeForm": text}]),
        card("Grep", pattern=text, path=text),
        card("AskUserQuestion", questions=[{"question": text}]),
    ]


def test_nothing_of_the_model_or_a_tool_becomes_html() -> None:
    """Wherever a text comes from, it is text."""
    for shown in kinds_of_cards(EVIL):
        found = Tags(html(shown))
        assert found.tags <= {"details", "summary", "div", "span", "code", "pre", "img"}
        assert found.attributes <= {"style", "src", "alt"}
        assert html(shown).count("</details>") == 1
        assert html(shown).count("<img") == len(re.findall("<img src=.data:image/png", html(shown)))


def test_no_control_character_is_shown() -> None:
    """Neither a terminal's, nor one that has a command read as another one."""
    for shown in kinds_of_cards("a\u202eb\x1b[31mc\x07"):
        for said in cards.bundle(shown).values():
            assert not re.search("[\u202e\x1b\x07]", said)
    assert "a<U+202E>bc" in cards.line(card("Read", file_path="a\u202eb\x1b[31mc"))


def test_a_notebook_that_is_not_trusted_shows_all_of_it() -> None:
    """JupyterLab's sanitizer keeps these properties, and of colours `rgb()` and names, as the
    fallback of a variable too; a hexadecimal fallback, or a variable in a border, it does not.
    """
    bundles = [cards.bundle(shown) for shown in kinds_of_cards("x")]
    bundles += [rendering.waiting(), rendering.thought("Hm", 1.0), rendering.footer(None)]
    styles = set().union(*(Tags(bundle["text/html"]).styles for bundle in bundles))

    colours = {pair for pair in styles if pair[0] in ("color", "background-color")}
    numbers = r"rgba?\(\d+, \d+, \d+(, 0\.\d+)?\)"
    for _, value in colours:
        assert re.fullmatch(rf"var\(--jp-[a-z0-9-]+, {numbers}\)|{numbers}|transparent", value)
    kept = (
        "border-radius cursor display flex font-size font-weight gap line-height "
        "list-style-position margin margin-bottom margin-left max-height max-width min-width "
        "overflow overflow-wrap padding padding-left text-overflow white-space width"
    )
    assert {name for name, _ in styles - colours} <= set(kept.split())
    assert not any("var(" in value for _, value in styles - colours)


def test_the_line_of_a_card_is_as_high_when_the_tool_is_done() -> None:
    """Whatever it says, it is one line of the same height: nothing below it moves."""
    running = card("Bash", command="ls\n" * 50)
    heights = {
        re.findall(r"line-height: (\d+)px", html(one).partition("</summary>")[0])[0]
        for one in (running, running.asked(asked()), done(running, "x\n" * 50), running.ended())
    }
    waits = re.findall(r"line-height: (\d+)px", rendering.waiting()["text/html"])

    assert heights == set(waits)
    for one in (running, done(running, "x\n" * 50)):
        assert "\n" not in html(one).partition("</summary>")[0]


def test_a_line_of_text_fits_the_terminal() -> None:
    """What is long in it is shortened, not how it goes."""
    shown = done(card("Bash", command="echo " + "word " * 100))

    assert cards.line(shown, 80).endswith("…  ok 0.3 s")
    assert len(cards.line(shown, 80)) <= 80


def test_where_claude_code_keeps_a_picture_is_not_in_the_notebook() -> None:
    """It is a path of the user's home; the picture itself is there."""
    said = "drawn\n[Image: source: /home/ann/.claude/projects/x/tool-results/a.png]"
    shown = done(card("run_python", code="draw()"), [{"type": "text", "text": said}])
    assert "drawn" in str(cards.bundle(shown))
    assert "/home/ann/.claude" not in str(cards.bundle(shown))
