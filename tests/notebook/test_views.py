"""Which display of a cell shows what, and what a terminal is written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    AnswerDiscarded,
    Event,
    PermissionRequest,
    PermissionResolved,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnEnd,
    Usage,
)
from jupyter_ccapi.notebook import views
from jupyter_ccapi.notebook.views import NotebookView, TerminalView

DIFF = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


class Screen:
    """The displays of a cell, in their order, and all that was drawn in each."""

    def __init__(self) -> None:
        self.drawn: list[list[dict[str, str]]] = []
        self.cleared = False

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> "Handle":
        """Stand in for IPython's own."""
        assert raw
        assert display_id
        self.drawn.append([bundle])
        return Handle(self.drawn[-1])

    def clear_output(self, *, wait: bool) -> None:
        """Stand in for IPython's own."""
        self.cleared = wait

    @property
    def lines(self) -> list[str]:
        """What the displays show now, as text without seconds."""
        shown = (history[-1]["text/plain"] for history in self.drawn)
        return [re.sub(r" \d+\.\d s$", "", text) for text in shown]


class Handle:
    """A display that is there."""

    def __init__(self, history: list[dict[str, str]]) -> None:
        self._history = history

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        """Stand in for IPython's own; nothing is ever drawn that is there already."""
        assert raw
        assert bundle != self._history[-1]
        self._history.append(bundle)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """The outputs of the running cell."""
    shown = Screen()
    monkeypatch.setattr(views, "display", shown.display)
    monkeypatch.setattr(views, "clear_output", shown.clear_output)
    return shown


def feed(view: views.View, *events: Event) -> None:
    """Have each event drawn, as of a turn that is slow."""
    for event in events:
        view.take(event)
        view.draw()


def bash(id: str, command: str = "ls") -> ToolCall:
    """A call of Bash."""
    return ToolCall(id, "Bash", {"command": command})


def ok(id: str, said: str = "done") -> ToolResult:
    """A tool's answer."""
    return ToolResult(id, said, False)


def end(reason: Any = "completed", denials: list[Any] | None = None) -> TurnEnd:
    """The end of a turn."""
    return TurnEnd(reason, "", "end_turn", "claude", Usage(), 0.0, 0.0, None, denials or [], 2)


def question(id: str) -> PermissionRequest:
    """The question whether a call may run."""
    return PermissionRequest(id, "Bash", {}, "Claude wants to use Bash.", "", None, "Bash(ls)")


def test_a_turn_is_drawn_downwards(screen: Screen) -> None:
    """Each part in a display of its own, in the order of the turn."""
    view = NotebookView(10)
    feed(view, ThinkingDelta("Hm"), TextDelta("I look."), bash("a"), ok("a"))
    feed(view, TextDelta("\n\nAll is "), TextDelta("well."), end())

    assert screen.lines == [
        "Thought for a moment",
        "I look.",
        "● Bash  ls  ok",
        "All is well.",
        "claude · checkpoint 2",
    ]


def test_the_line_that_waits_is_replaced_and_comes_again(screen: Screen) -> None:
    """First by the first words; it stands again whenever the model is waited for."""
    view = NotebookView(10)
    assert screen.lines == ["Waiting for Claude…"]
    feed(view, TextDelta("I look."))
    assert screen.lines == ["I look."]
    feed(view, bash("a"))
    assert screen.lines == ["I look.", "● Bash  ls  running…"]
    feed(view, ok("a"))
    assert screen.lines == ["I look.", "● Bash  ls  ok", "Waiting for Claude…"]
    feed(view, bash("b", "pwd"))
    assert screen.lines[2:] == ["● Bash  pwd  running…"]
    feed(view, ok("b"), end())
    assert screen.lines[3:] == ["claude · checkpoint 2"]


def test_calls_that_run_at_once_each_keep_their_card(screen: Screen) -> None:
    """Their results come in any order, and find them by their ids."""
    view = NotebookView(10)
    feed(view, bash("a", "one"), bash("b", "two"), bash("c", "three"))
    feed(view, ok("c"), ToolResult("a", "no", True))

    assert screen.lines == [
        "● Bash  one  failed\n    no",
        "● Bash  two  running…",
        "● Bash  three  ok",
    ]
    feed(view, ok("b"), end())
    assert screen.lines[1] == "● Bash  two  ok"
    assert screen.lines[3] == "claude · checkpoint 2"


def test_a_display_that_has_not_changed_is_not_drawn(screen: Screen) -> None:
    """Not even while others are: what a reader has unfolded stays unfolded."""
    view = NotebookView(10)
    feed(view, bash("a"), ok("a"), TextDelta("Now"), TextDelta(" then"))
    for _ in range(5):
        view.draw()

    assert [len(history) for history in screen.drawn] == [3, 3]


def test_the_text_that_stays_is_the_models_own(screen: Screen) -> None:
    """Half-written Markdown is closed while it streams, and never after."""
    view = NotebookView(10)
    feed(view, TextDelta("\n**bold and `co"))
    assert screen.drawn[0][-1]["text/markdown"] == "\n**bold and `co`"
    feed(view, TextDelta("de"), end("interrupted"))
    assert screen.drawn[0][-1]["text/markdown"] == "\n**bold and `code"


def test_nothing_is_drawn_for_words_that_show_nothing(screen: Screen) -> None:
    """The line that waits is not replaced by an empty one."""
    view = NotebookView(10)
    feed(view, TextDelta("-"))
    assert screen.lines == ["Waiting for Claude…"]
    feed(view, TextDelta(" one"))
    assert screen.lines == ["- one"]


def test_a_question_is_passed_on_below_the_card_that_waits(screen: Screen) -> None:
    """Then the card says how it was answered, and how it went on."""
    asked: list[tuple[PermissionRequest, list[str]]] = []
    view = NotebookView(10, approvals=lambda request: asked.append((request, screen.lines)))
    feed(view, bash("a"), question("a"))

    assert asked == [(question("a"), ["● Bash  ls  waiting for your answer"])]
    feed(view, PermissionResolved("a", "allow", "once", ""))
    assert screen.lines == ["● Bash  ls  running…"]
    feed(view, ok("a"), bash("b"), question("b"))
    feed(view, PermissionResolved("b", "deny", "once", "Not now."))
    assert screen.lines[1] == "● Bash  ls  denied: Not now."
    feed(view, ToolResult("b", "The user said no.", True))
    assert screen.lines[1:] == ["● Bash  ls  denied: Not now.", "Waiting for Claude…"]


def test_a_question_that_comes_before_its_call_is_not_lost(screen: Screen) -> None:
    """It is told of from another side than the calls."""
    view = NotebookView(10)
    feed(view, question("a"), bash("a"))

    assert screen.lines == ["● Bash  ls  waiting for your answer"]


def test_a_question_of_a_sub_agent_needs_no_card(screen: Screen) -> None:
    """Its calls are not told of; the question is passed on all the same."""
    asked: list[PermissionRequest] = []
    view = NotebookView(10, approvals=asked.append)
    feed(view, ToolCall("t", "Task", {"description": "Look"}), question("inner"))
    feed(view, PermissionResolved("inner", "allow", "once", ""), ok("inner"), ok("t"))

    assert asked == [question("inner")]
    assert screen.lines == ["● Task  Look  ok", "Waiting for Claude…"]


def test_calls_that_a_rule_denied_are_known_at_the_end(screen: Screen) -> None:
    """With nobody asked, only the turn's end tells them from failures."""
    view = NotebookView(10)
    denials = [{"tool_name": "Bash", "tool_use_id": "a"}, {"tool_use_id": "other"}, "odd"]
    feed(view, bash("a"), ToolResult("a", "Not allowed.", True), end(denials=denials))

    assert screen.lines[0] == "● Bash  ls  denied\n    Not allowed."


def test_a_call_that_never_ended_is_stopped(screen: Screen) -> None:
    """By the stop button, whether the turn's end was waited for or not."""
    view = NotebookView(10)
    feed(view, bash("a"))
    view.stopping()
    view.draw()
    assert screen.lines == ["● Bash  ls  running…", "Stopping…"]
    view.close(stopped=True)
    assert screen.lines == ["● Bash  ls  stopped", "Stopped"]


def test_the_stop_is_shown_where_something_was_waited_for(screen: Screen) -> None:
    """And the wait is not shown again."""
    view = NotebookView(10)
    feed(view, bash("a"), ok("a"))
    view.stopping()
    view.draw()
    assert screen.lines == ["● Bash  ls  ok", "Stopping…"]
    feed(view, end("interrupted"))
    assert screen.lines == ["● Bash  ls  ok", "Stopped · claude · checkpoint 2"]


def test_a_failure_leaves_no_line_that_waits(screen: Screen) -> None:
    """Alone it is cleared; below a card it is replaced, so that nothing moves up."""
    NotebookView(10).close()
    assert screen.cleared

    screen.cleared = False
    view = NotebookView(10)
    feed(view, bash("a"), ok("a"))
    view.close()
    assert screen.lines[1:] == ["● Bash  ls  ok", "Broken off"]
    assert not screen.cleared


def test_an_answer_that_is_taken_back_is_gone(screen: Screen) -> None:
    """It did not fulfil the schema, and the model begins again in its place."""
    view = NotebookView(10)
    feed(view, TextDelta('{"a": 1'), AnswerDiscarded())
    assert screen.lines == ["Waiting for Claude…"]
    feed(view, TextDelta('{"a": 2}'), end())
    assert screen.lines == ['{"a": 2}', "claude · checkpoint 2"]


def test_a_budget_that_is_spent_is_said(screen: Screen) -> None:
    """With the amount that the view was given."""
    feed(NotebookView(10, budget=0.5), TextDelta("So"), end("max_budget"))

    assert screen.lines[1].startswith("Stopped: this cell's budget of $0.50 is spent. Go on")


def test_files_are_named_as_seen_from_the_folder(screen: Screen) -> None:
    """The view passes it on to the cards."""
    feed(NotebookView(10, folder=Path("/a")), ToolCall("r", "Read", {"file_path": "/a/b/c.py"}))

    assert screen.lines == ["● Read  b/c.py  running…"]


def test_a_quiet_cell_shows_nothing_but_asks(screen: Screen) -> None:
    """A question that nobody saw would wait for ever."""
    asked: list[PermissionRequest] = []
    view = NotebookView(10, quiet=True, approvals=asked.append)
    feed(view, ThinkingDelta("Hm"), TextDelta("So"), bash("a"), question("a"))
    view.stopping()
    feed(view, end("max_budget"))
    NotebookView(10, quiet=True).close()

    assert screen.drawn == []
    assert not screen.cleared
    assert asked == [question("a")]


@pytest.fixture
def written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """What a terminal of 60 columns was written, without seconds."""
    monkeypatch.setenv("COLUMNS", "60")
    return lambda: re.sub(r"(ok|failed) \d+\.\d s", r"\1", capsys.readouterr().out)


def test_a_terminal_is_written_a_line_for_each_call(written: Callable[[], str]) -> None:
    """With its end on the same line, where nothing came between; an edit with its diff."""
    view = TerminalView()
    feed(view, ThinkingDelta("Hm"), ThinkingDelta("so"), TextDelta("I look."), bash("a"))
    assert written() == "Thinking…\nI look.\n● Bash  ls"
    feed(view, ok("a"), ToolCall("e", "Edit", {"file_path": "x"}))
    feed(view, ToolResult("e", "", False, DIFF), TextDelta("\n\nDone.\n\nReally."), end())
    diff = DIFF.rstrip("\n").replace("\n", "\n    ")
    assert written() == (
        f"  ok\n● Edit  x  +1 -1  ok\n    {diff}\nDone.\n\nReally.\n[claude · checkpoint 2]\n"
    )


def test_calls_at_once_are_each_told_again_when_they_end(written: Callable[[], str]) -> None:
    """A line that is not the last cannot be written on."""
    view = TerminalView()
    feed(view, bash("a", "one"), bash("b", "two"), ToolResult("a", "no\nway", True), ok("b"))

    assert written().split("\n") == [
        "● Bash  one",
        "● Bash  two",
        "● Bash  one  failed",
        "    no",
        "    way",
        "● Bash  two  ok",
        "",
    ]


def test_a_terminal_asks_on_a_line_of_its_own(written: Callable[[], str]) -> None:
    """The line of the call ends before, and is told with the answer."""
    view = TerminalView(approvals=lambda request: print("Allow? no"))
    feed(view, bash("a"), question("a"), PermissionResolved("a", "deny", "once", "No."))
    feed(view, ToolResult("a", "The user said no.", True), end())

    assert written() == (
        "● Bash  ls\nAllow? no\n● Bash  ls  denied: No.\n[claude · checkpoint 2]\n"
    )


def test_a_terminal_tells_the_end_of_a_call_once(written: Callable[[], str]) -> None:
    """That a rule denied it was in its answer; what has not ended by then was stopped."""
    view = TerminalView()
    feed(view, bash("a"), ToolResult("a", "Not allowed.", True), bash("b"))
    feed(view, end("interrupted", [{"tool_use_id": "a"}]))

    assert written() == (
        "● Bash  ls  failed\n    Not allowed.\n● Bash  ls  stopped\n"
        "[Stopped · claude · checkpoint 2]\n"
    )


def test_an_interrupted_terminal_ends_its_line(written: Callable[[], str]) -> None:
    """What IPython says next starts on its own."""
    view = TerminalView()
    feed(view, bash("a"))
    view.stopping()
    view.close(stopped=True)

    assert written() == "● Bash  ls\n"


def test_a_quiet_terminal_is_written_nothing_but_asks(written: Callable[[], str]) -> None:
    """As a quiet cell."""
    view = TerminalView(quiet=True, approvals=lambda request: print("Allow?"))
    feed(view, ThinkingDelta("Hm"), TextDelta("So"), bash("a"), question("a"), end())
    view.close()

    assert written() == "Allow?\n"
