"""The widgets of a conversation: chat, timeline and usage, on a conversation that does as told."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from ipywidgets import (  # type: ignore[import-untyped]
    HTML,
    Button,
    Checkbox,
    Output,
    Text,
    ToggleButtons,
    Widget,
)
from ipywidgets.widgets.widget import _instances  # type: ignore[import-untyped]

from jupyter_ccapi.claude import (
    Answer,
    AnswerDiscarded,
    ClaudeError,
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
from jupyter_ccapi.claude.changes import FileChange
from jupyter_ccapi.claude.errors import RewindRefused
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.record import Checkpoint
from jupyter_ccapi.notebook import chat_markdown
from jupyter_ccapi.notebook.chat_widget import ChatWidget
from jupyter_ccapi.notebook.rewound import Rewound
from jupyter_ccapi.notebook.timeline_widget import TimelineWidget
from jupyter_ccapi.notebook.usage_widget import KernelUsage, UsageWidget

USAGE = Usage(1_000, 200, 30_000, 4_000)
END = TurnEnd("completed", "", "end_turn", "claude-x", USAGE, 0.01, 1.0, checkpoint=1)
ASKS = PermissionRequest("b1", "Bash", {"command": "ls"}, "Bash?", "", None, "Bash(ls)")


class Conversation:
    """Does as a test says: `events` are what its turns yield, an error among them is raised."""

    def __init__(self, count: int = 3) -> None:
        self.turns, self.usage_total, self.cost_usd = 0, Usage(), 0.0
        self.prompts: list[str] = []
        self.events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        self.answers: list[tuple[str, Answer]] = []
        self.interrupted = self.left = False
        self.checkpoints = [
            Checkpoint(number, time.time(), f"prompt <{number}>", f"s{number}")
            for number in range(1, count + 1)
        ]
        self.can_undo = False
        self.conflicts: tuple[str, ...] = ()
        self.failure: ClaudeError | None = None
        self.asked: list[dict[str, Any]] = []
        self.listeners: list[Callable[[], None]] = []
        self._gone: list[Checkpoint] = []

    async def stream(self, prompt: str) -> AsyncIterator[Event]:
        """Yield what the test puts; None ends it."""
        self.prompts.append(prompt)
        try:
            while (event := await self.events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, TurnEnd):
                    self.turns += 1
                    self.usage_total += event.usage
                    self.cost_usd += event.cost_usd
                    self.tell()
                yield event
                if isinstance(event, TurnEnd):
                    return
        finally:
            self.left = True

    async def interrupt(self) -> None:
        """Note it, and end the turn."""
        self.interrupted = True
        self.events.put_nowait(replace(END, reason="interrupted"))

    def answer(self, request_id: str, answer: Answer) -> None:
        """Note it, and go on."""
        self.answers.append((request_id, answer))
        told = PermissionResolved(request_id, answer.behavior, answer.scope, answer.message)
        self.events.put_nowait(told)

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Tell it of each change."""
        self.listeners.append(call)
        return lambda: self.listeners.remove(call)

    def tell(self) -> None:
        """Something has changed."""
        for call in list(self.listeners):
            call()

    def rewind(
        self,
        checkpoint: int,
        *,
        files: bool = True,
        conversation: bool = True,
        dry_run: bool = False,
        force: bool = False,
    ) -> Rewound:
        """Rewind, and tell of it also when it is only looked at, as the real one does."""
        self.asked.append(
            {
                "to": checkpoint,
                "files": files,
                "conversation": conversation,
                "dry_run": dry_run,
                "force": force,
            }
        )
        later = [one for one in self.checkpoints if one.number >= checkpoint]
        conflicts = () if force or not files else self.conflicts
        change = FileChange("x.py", "modified", 1, 2, binary=False)
        plan = Plan(
            checkpoint,
            later[0].words,
            files=(change,) if files else (),
            conflicts=conflicts,
            undone=tuple(later),
        )
        try:
            if self.failure is not None:
                raise self.failure
            if not dry_run:
                plan.check()
                self.checkpoints = self.checkpoints[: -len(later)]
                self._gone, self.can_undo = later, True
        finally:
            self.tell()
        return Rewound(plan, done=not dry_run)

    def undo(self, *, dry_run: bool = False, force: bool = False) -> Rewound:
        """Take it back."""
        plan = Plan(self._gone[0].number, "", returns=tuple(self._gone))
        if not dry_run:
            self.checkpoints = self.checkpoints + self._gone
            self.can_undo = False
        self.tell()
        return Rewound(plan, done=not dry_run, undo=True)


@pytest.fixture(autouse=True)
def no_widgets() -> Iterator[None]:
    """A widget that is closed leaves nothing, in the kernel as in the browser."""
    before = set(_instances)
    yield
    assert {type(_instances[id]).__name__ for id in set(_instances) - before} == set()


def parts(widget: Any) -> list[Any]:
    """What is shown of a widget: itself and all within that is not hidden."""
    if widget.layout.display == "none":
        return []
    return [widget, *(part for child in getattr(widget, "children", ()) for part in parts(child))]


def buttons(widget: Widget, words: str) -> list[Button]:
    """The buttons with these words, from the top."""
    return [part for part in parts(widget) if getattr(part, "description", "") == words]


def html(widget: Widget) -> str:
    """All that its HTML says."""
    return "\n".join(part.value for part in parts(widget) if isinstance(part, HTML))


def found(widget: Widget, kind: type) -> Any:
    """The one part of this kind."""
    (one,) = [part for part in parts(widget) if type(part) is kind]
    return one


async def until(seen: Callable[[], object]) -> None:
    """Let happen what is about to, until this is seen."""
    async with asyncio.timeout(30):
        while not seen():  # noqa: ASYNC110 - what a widget shows has no event
            await asyncio.sleep(0.01)


async def press(widget: Widget, words: str, which: int = 0) -> None:
    """Click a button, and let happen what comes of it."""
    buttons(widget, words)[which].click()
    for _ in range(5):
        await asyncio.sleep(0)


async def send(chat: ChatWidget, prompt: str) -> None:
    """Write a prompt and click Send."""
    entry = next(part for part in parts(chat) if isinstance(part, Text))
    entry.set_state({"value": prompt})
    await press(chat, "Send")


def test_ipywidgets_is_imported_when_it_is_needed() -> None:
    """Not with the package, nor with the magics."""
    code = (
        "import sys, jupyter_ccapi.notebook, jupyter_ccapi.notebook.approvals; "
        "print('ipywidgets' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "False\n"


@pytest.mark.parametrize("make", [ChatWidget, TimelineWidget, UsageWidget])
def test_without_a_notebook_a_widget_says_so(make: Callable[[Any], Widget]) -> None:
    """There is no loop on which it could live."""
    with pytest.raises(
        ClaudeError, match=r"Widgets need a notebook: make them in one of its cells"
    ):
        make(Conversation())


async def test_a_chat_draws_a_turn_downwards() -> None:
    """Prompt, thought, answer, tool and footer, and below all what it has cost."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "What is <here>?")
    assert claude.prompts == ["What is <here>?"]
    assert found(chat, Text).value == ""
    await until(lambda: "Waiting for Claude…" in html(chat))

    claude.events.put_nowait(ThinkingDelta("I look."))
    claude.events.put_nowait(TextDelta("It is **bo"))
    await until(lambda: "<strong>bo</strong>" in html(chat))
    claude.events.put_nowait(TextDelta("ld**."))
    claude.events.put_nowait(ToolCall("r1", "Read", {"file_path": "x.py"}))
    await until(lambda: "running…" in html(chat))
    claude.events.put_nowait(ToolResult("r1", "a = <1>", False))
    claude.events.put_nowait(AnswerDiscarded())
    claude.events.put_nowait(TextDelta("Done."))
    claude.events.put_nowait(END)
    await until(lambda: buttons(chat, "Send"))

    shown = html(chat)
    order = ["What is &lt;here&gt;?", "Thought for", "<strong>bold</strong>", "a = &lt;1&gt;"]
    order += ["Done.", "checkpoint 1", "1 turn · 35,000 tokens in"]
    places = [shown.index(words) for words in order]
    assert places == sorted(places)
    assert "Waiting" not in shown
    chat.close()
    assert claude.listeners == []


async def test_enter_sends_and_one_turn_runs_at_a_time() -> None:
    """What is written meanwhile stays; nothing is sent for an empty line."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "  ")
    assert claude.prompts == []
    entry = found(chat, Text)
    entry._handle_custom_msg({"event": "submit"}, [])
    entry.set_state({"value": "First"})
    await until(lambda: claude.prompts == ["First"])
    assert not buttons(chat, "Send")

    entry._handle_custom_msg({"event": "submit"}, [])
    entry.set_state({"value": "Second"})
    claude.events.put_nowait(END)
    await until(lambda: buttons(chat, "Send"))
    assert entry.value == "Second"
    await press(chat, "Send")
    await until(lambda: claude.prompts == ["First", "Second"])
    claude.events.put_nowait(END)
    await until(lambda: buttons(chat, "Send"))
    assert "2 turns · 70,000 tokens in" in html(chat)
    chat.close()


async def test_a_chat_asks_for_permission_in_its_place() -> None:
    """Below the call's card; the answer stays as a line, and what is not answered says so."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "List")
    claude.events.put_nowait(ToolCall("b1", "Bash", {"command": "ls"}))
    claude.events.put_nowait(ASKS)
    await until(lambda: buttons(chat, "Allow once"))
    assert "waiting for your answer" in html(chat)
    await press(chat, "Allow once")
    await until(lambda: "Allowed once" in html(chat))
    assert claude.answers == [("b1", Answer("allow"))]
    assert not buttons(chat, "Allow once")

    claude.events.put_nowait(replace(ASKS, id="b2"))
    await until(lambda: buttons(chat, "Deny"))
    claude.events.put_nowait(END)
    await until(lambda: buttons(chat, "Send"))
    assert not buttons(chat, "Deny")
    assert "Not answered" in html(chat)
    chat.close()


async def test_stop_interrupts_the_turn() -> None:
    """The footer says so, and the next prompt can be sent."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "Tell a story")
    claude.events.put_nowait(TextDelta("Once"))
    await until(lambda: "Once" in html(chat))
    await press(chat, "Stop")
    await until(lambda: buttons(chat, "Send"))
    assert claude.interrupted
    assert "Stopped · claude-x" in html(chat)
    assert not buttons(chat, "Send")[0].disabled
    chat.close()


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ClaudeError("Not <logged> in; see the option cli_path."), "&lt;logged&gt; in; see the"),
        (ValueError("odd"), "The chat could not go on. ValueError: odd"),
        (None, "The answer broke off."),
    ],
)
async def test_what_fails_is_said_in_its_place(failure: BaseException | None, said: str) -> None:
    """What was there stays, and the next prompt can be sent."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "Go")
    claude.events.put_nowait(TextDelta("I begin"))
    claude.events.put_nowait(ToolCall("b1", "Bash", {"command": "ls"}))
    claude.events.put_nowait(failure)
    await until(lambda: buttons(chat, "Send"))
    shown = html(chat)
    assert shown.index("I begin") < shown.index("stopped") < shown.index(said)
    assert "Waiting" not in shown
    assert ("ClaudeMagics.cli_path" in shown) == (type(failure) is ClaudeError)
    await send(chat, "Again")
    claude.events.put_nowait(END)
    await until(lambda: claude.turns)
    await until(lambda: buttons(chat, "Send"))
    chat.close()


async def test_formulas_are_left_to_jupyterlab() -> None:
    """It sets them; a widget of HTML cannot."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "The mean?")
    claude.events.put_nowait(TextDelta(r"It is $\bar{x}$."))
    claude.events.put_nowait(END)
    await until(lambda: buttons(chat, "Send"))
    (shown,) = found(chat, Output).outputs
    assert shown["data"]["text/markdown"] == r"It is $\bar{x}$."
    chat.close()


async def test_closing_a_chat_leaves_its_turn() -> None:
    """Nobody pays for an answer that nobody reads."""
    claude = Conversation()
    chat = ChatWidget(claude)
    await send(chat, "Tell a story")
    claude.events.put_nowait(ASKS)
    await until(lambda: buttons(chat, "Deny"))
    chat.close()
    await until(lambda: claude.left)


@pytest.mark.parametrize(
    ("markdown", "drawn"),
    [
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y&gt;"),
        ("a <b>c</b>", "a &lt;b&gt;c&lt;/b&gt;"),
        ("[a](javascript:alert(1))", 'href="#harmful-link" target="_blank"'),
        (
            "[a](https://x.org)",
            '<a href="https://x.org" target="_blank" rel="noopener noreferrer">',
        ),
        ("![plot](https://x.org/p.png)", '<a href="https://x.org/p.png" target="_blank"'),
        ("```python\ndef f(): '<i>'\n```", "'&lt;i&gt;'</span>"),
        ("```odd\n<i>\n```", "&lt;i&gt;"),
        ("| a |\n|---|\n| 1 |", "<td>1</td>"),
        ("- [x] done", "checked"),
    ],
)
def test_markdown_is_drawn_and_html_is_not(markdown: str, drawn: str) -> None:
    """What the model writes runs nothing and fetches nothing."""
    made = chat_markdown.html(markdown)
    assert drawn in made
    assert "<img" not in made
    assert "<i>" not in made


def dry(number: int, **given: bool) -> dict[str, Any]:
    """What a rewind is asked for that is only looked at."""
    wish = {"files": True, "conversation": True, "dry_run": True, "force": False}
    return {"to": number, **wish, **given}


async def test_a_timeline_lists_the_newest_first_and_follows() -> None:
    """What has not changed stays as it is; a turn that ends adds a line."""
    claude = Conversation()
    claude.checkpoints[1] = replace(
        claude.checkpoints[1], files=("x.py", "y.py"), insertions=3, deletions=1
    )
    timeline = TimelineWidget(claude)
    shown = html(timeline)
    assert "3 checkpoints" in shown
    places = [shown.index(f"prompt &lt;{number}&gt;") for number in (3, 2, 1)]
    assert places == sorted(places)
    assert "2 files" in shown
    assert 'title="x.py, y.py"' in shown
    kept = buttons(timeline, "Preview")[0]

    claude.checkpoints = [*claude.checkpoints, Checkpoint(4, 0.0, "and now", "s4")]
    claude.tell()
    await until(lambda: "4 checkpoints" in html(timeline))
    assert "01 Jan" in html(timeline)
    assert buttons(timeline, "Preview")[1] is kept
    assert not buttons(timeline, "Undo last rewind…")
    timeline.close()
    assert claude.listeners == []


async def test_a_preview_changes_nothing() -> None:
    """It says what a rewind would do, and is closed again."""
    claude = Conversation()
    timeline = TimelineWidget(claude)
    await press(timeline, "Preview", 1)
    assert claude.asked == [dry(2)]
    assert "A rewind to before prompt 2 (“prompt &lt;2&gt;”) would do this:" in html(timeline)
    assert not buttons(timeline, "Rewind")
    await press(timeline, "Preview", 0)
    assert "before prompt 2" not in html(timeline)
    await press(timeline, "Close")
    assert "would do this" not in html(timeline)
    assert len(claude.checkpoints) == 3
    timeline.close()


async def test_a_rewind_is_confirmed_done_and_undone() -> None:
    """In whole or in part; the lines follow."""
    claude = Conversation()
    timeline = TimelineWidget(claude)
    await press(timeline, "Rewind…", 1)
    assert claude.asked == [dry(2)]
    await press(timeline, "Cancel")
    assert len(claude.checkpoints) == 3

    await press(timeline, "Rewind…", 1)
    found(timeline, ToggleButtons).value = "Conversation"
    await until(lambda: claude.asked[-1] == dry(2, files=False))
    await press(timeline, "Rewind")
    assert claude.asked[-1] == dry(2, files=False, dry_run=False)
    shown = html(timeline)
    assert "Rewound to before prompt 2" in shown
    assert "1 checkpoint<" in shown

    await press(timeline, "Undo last rewind…")
    assert "Taking back the rewind to before prompt 2 would do this:" in html(timeline)
    assert not [part for part in parts(timeline) if isinstance(part, ToggleButtons)]
    await press(timeline, "Undo")
    assert "3 checkpoints" in html(timeline)
    assert "was taken back" in html(timeline)
    assert not buttons(timeline, "Undo last rewind…")
    timeline.close()


async def test_conflicts_ask_for_force() -> None:
    """Until it is given the button does nothing."""
    claude = Conversation()
    claude.conflicts = ("x.py",)
    timeline = TimelineWidget(claude)
    await press(timeline, "Rewind…", 0)
    assert "would be refused" in html(timeline)
    assert buttons(timeline, "Rewind")[0].disabled
    found(timeline, Checkbox).value = True
    await until(lambda: claude.asked[-1]["force"])
    assert not buttons(timeline, "Rewind")[0].disabled
    await press(timeline, "Rewind")
    assert claude.asked[-1] == dry(3, dry_run=False, force=True)
    assert len(claude.checkpoints) == 2
    timeline.close()


async def test_a_refused_rewind_says_why() -> None:
    """In the panel, where it can be tried again; a conflict that has come up offers force."""
    claude = Conversation()
    timeline = TimelineWidget(claude)
    await press(timeline, "Rewind…", 0)
    assert not [part for part in parts(timeline) if isinstance(part, Checkbox)]
    claude.failure = RewindRefused("Nothing <was> rewound.", conflicts=["x.py"])
    await press(timeline, "Rewind")
    assert "Nothing &lt;was&gt; rewound." in html(timeline)
    assert found(timeline, Checkbox)
    claude.failure = None
    await press(timeline, "Rewind")
    assert len(claude.checkpoints) == 2
    timeline.close()


async def test_many_checkpoints_are_shown_when_asked_for() -> None:
    """Each line is a handful of widgets."""
    claude = Conversation(45)
    timeline = TimelineWidget(claude)
    assert len(buttons(timeline, "Preview")) == 20
    await press(timeline, "Show all")
    assert len(buttons(timeline, "Preview")) == 45
    assert not buttons(timeline, "Show all")
    timeline.close()


async def test_a_timeline_without_checkpoints_says_so() -> None:
    """And one that cannot be read says why."""
    claude = Conversation(0)
    timeline = TimelineWidget(claude)
    assert "No checkpoints yet: each prompt is one" in html(timeline)
    timeline.close()

    class Broken(Conversation):
        @property
        def checkpoints(self) -> list[Checkpoint]:
            raise ClaudeError("They cannot be <read>.")

        @checkpoints.setter
        def checkpoints(self, value: list[Checkpoint]) -> None:
            pass

    broken = TimelineWidget(cast(Any, Broken()))
    assert "They cannot be &lt;read&gt;." in html(broken)
    broken.close()


async def test_usage_counts_on() -> None:
    """Tokens, those of the cache apart, and the cost."""
    claude = Conversation()
    usage = UsageWidget(claude)
    assert ">$0<" in html(usage)
    claude.turns, claude.usage_total, claude.cost_usd = 2, USAGE, 0.0123
    claude.tell()
    await until(lambda: "$0.0123" in html(usage))
    for figure in ("1,000", "30,000", "4,000", "200"):
        assert f">{figure}<" in html(usage)
    assert "kernel" not in html(usage)
    usage.close()
    assert claude.listeners == []


async def test_usage_of_the_whole_kernel_stands_beside_it() -> None:
    """Where the conversation knows it."""
    claude = Conversation()
    claude.kernel_usage = KernelUsage(3, 12, USAGE + USAGE, 12.5, 2)  # type: ignore[attr-defined]
    usage = UsageWidget(claude)
    shown = html(usage)
    assert "All 3 in this kernel" in shown
    assert ">60,000<" in shown
    assert ">$12.50<" in shown
    assert shown.index("Warm processes") < shown.index(">2<")
    usage.close()
