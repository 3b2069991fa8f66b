"""How a person at a cell is asked for permission: by buttons, in words, or not at all."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import StdinNotImplementedError
from ipywidgets import Button, Text, Widget  # type: ignore[import-untyped]
from ipywidgets.widgets.widget import _instances  # type: ignore[import-untyped]

from jupyter_ccapi.claude import Answer, ClaudeError, PermissionRequest, PermissionResolved
from jupyter_ccapi.notebook import approvals, permission
from jupyter_ccapi.notebook.approval_card import ApprovalCard
from jupyter_ccapi.notebook.approvals import Approvals
from jupyter_ccapi.notebook.stop_button import sigint_cancels
from tests.notebook.kernels import PATIENCE, ROOT, Kernel

WIDGET = "application/vnd.jupyter.widget-view+json"
DIFF = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a = 1\n+a = 2\n"


def bash(command: str = "rm x", id: str = "b1", **given: Any) -> PermissionRequest:
    """The question whether a command may run."""
    given = {"command": command, **given}
    return PermissionRequest(id, "Bash", given, "Claude wants to use Bash.", "", None, "Bash(rm *)")


def edit() -> PermissionRequest:
    """The question whether a file may be changed."""
    given = {"file_path": "x.py", "old_string": "a = 1", "new_string": "a = 2"}
    return PermissionRequest(
        "e1", "Edit", given, "Claude wants to edit x.py.", "", DIFF, "Edit(**)"
    )


def shell(version: str = "", stdin: bool = True) -> Any:
    """IPython in a kernel of this version of ipykernel, or without one."""
    if not version:
        return SimpleNamespace()
    return SimpleNamespace(
        kernel=SimpleNamespace(_allow_stdin=stdin, implementation_version=version)
    )


class Screen:
    """What a cell displays: of each display all that it has shown."""

    def __init__(self) -> None:
        self.drawn: list[list[dict[str, Any]]] = []

    def display(self, bundle: dict[str, Any], *, raw: bool, display_id: bool) -> Any:
        """Stand in for IPython's own."""
        assert raw
        assert display_id
        history = [bundle]
        self.drawn.append(history)
        return SimpleNamespace(update=lambda bundle, raw: history.append(bundle))

    @property
    def now(self) -> list[dict[str, Any]]:
        """What is displayed now."""
        return [history[-1] for history in self.drawn]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """The outputs of the running cell."""
    shown = Screen()
    monkeypatch.setattr(approvals, "display", shown.display)
    return shown


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Have a person type these lines; what they are asked is collected."""

    def typing(*lines: str | BaseException) -> list[str]:
        asked: list[str] = []
        waiting = list(lines)

        def read(prompt: str) -> str:
            asked.append(prompt)
            line = waiting.pop(0)
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)
        return asked

    return typing


@pytest.fixture
def no_widgets() -> Iterator[None]:
    """Whatever a test makes is gone after it, in the kernel as in the browser."""
    before = set(_instances)
    yield
    assert set(_instances) - before == set()


def named(card: Any, words: str) -> Button:
    """The button with these words."""
    return next(one for one in parts(card.widget) if getattr(one, "description", "") == words)


def parts(widget: Widget) -> list[Widget]:
    """A widget and all within."""
    return [widget, *(part for child in getattr(widget, "children", ()) for part in parts(child))]


def reason(card: Any) -> Text:
    """Where a reason is written."""
    return next(one for one in parts(card.widget) if isinstance(one, Text))


def write(text: Text, words: str) -> None:
    """What a browser sends when words were written and the line is left."""
    text.set_state({"value": words})


def press_enter(text: Text) -> None:
    """What a browser sends for the key."""
    text._handle_custom_msg({"event": "submit"}, [])


async def soon() -> None:
    """Let happen what is about to."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("where", "how"),
    [
        (shell("7.4.0"), "widget"),
        (shell("8.0.0a1"), "widget"),
        (shell("7.3.9"), "input"),
        (shell("6.31.0"), "input"),
        (shell("7.4.0", stdin=False), "deny"),
        (shell("6.31.0", stdin=False), "deny"),
    ],
)
def test_a_kernel_asks_as_it_can(where: Any, how: str) -> None:
    """Buttons where clicks arrive meanwhile, words where they do not, else nothing."""
    assert approvals.way(where) == how


@pytest.mark.parametrize(("tty", "how"), [(True, "input"), (False, "deny")])
def test_a_terminal_asks_in_words(monkeypatch: pytest.MonkeyPatch, tty: bool, how: str) -> None:
    """And a script whose input is no terminal asks nobody."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: tty))
    assert approvals.way(shell()) == how


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y", Answer("allow")),
        (" Yes ", Answer("allow")),
        ("a", Answer("allow", "conversation")),
        ("always", Answer("allow", "conversation")),
        ("n", Answer("deny")),
        ("NO", Answer("deny")),
        ("Use git rm.", Answer("deny", message="Use git rm.")),
        ("yes please", Answer("deny", message="yes please")),
    ],
)
def test_what_is_typed_is_an_answer_or_a_reason(typed: str, answer: Answer) -> None:
    """Only what is clearly a yes is one."""
    assert approvals.read(typed) == answer


@pytest.mark.usefixtures("no_widgets")
@pytest.mark.parametrize(
    ("words", "answer", "said"),
    [
        ("Allow once", Answer("allow"), "Allowed once: Bash `rm x`"),
        (
            "Allow for this conversation",
            Answer("allow", "conversation"),
            "Allowed for this conversation: Bash `rm x` · Bash(rm *)",
        ),
        ("Deny", Answer("deny"), "Denied: Bash `rm x`"),
    ],
)
async def test_a_click_answers_once_and_leaves_a_line(
    screen: Screen, words: str, answer: Answer, said: str
) -> None:
    """The card takes no second click; in its place comes HTML that needs no widget."""
    given: list[Answer] = []
    asks = Approvals(shell("7.4.0"))
    asks.ask(bash(), given.append)
    card = asks._open["b1"].card
    assert WIDGET in screen.now[0]
    named(card, words).click()
    named(card, words).click()
    named(card, "Deny").click()
    await soon()

    assert given == [answer]
    assert all(named(card, other).disabled for other in ("Allow once", "Deny"))
    assert reason(card).disabled
    asks.resolved(PermissionResolved("b1", answer.behavior, answer.scope, answer.message))
    assert screen.now[0]["text/plain"] == said
    assert set(screen.now[0]) == {"text/html", "text/plain"}
    asks.close()
    assert len(screen.drawn[0]) == 2


@pytest.mark.usefixtures("no_widgets")
async def test_a_reason_is_sent_with_the_key_or_the_button(screen: Screen) -> None:
    """The key comes before the text that it ends; to leave the line denies nothing."""
    told: asyncio.Queue[Answer] = asyncio.Queue()
    asks = Approvals(shell("7.4.0"))
    for id in ("b1", "b2", "b3"):
        asks.ask(bash(id=id), told.put_nowait)
    one, two, three = (asks._open[id].card for id in ("b1", "b2", "b3"))
    press_enter(reason(one))
    await soon()
    assert told.empty()
    write(reason(one), " not now ")
    assert await told.get() == Answer("deny", message="not now")

    write(reason(two), "use git rm")
    await soon()
    assert told.empty()
    named(two, "Deny").click()
    assert await told.get() == Answer("deny", message="use git rm")

    press_enter(reason(three))
    async with asyncio.timeout(PATIENCE):
        assert await told.get() == Answer("deny")
    asks.close()


@pytest.mark.usefixtures("no_widgets")
async def test_several_requests_are_open_at_once(screen: Screen) -> None:
    """Each has its card; what is not answered at the end of the cell says so."""
    given: list[tuple[str, str]] = []
    asks = Approvals(shell("7.4.0"))
    asks.ask(bash(), lambda answer: given.append(("b1", answer.behavior)))
    asks.ask(edit(), lambda answer: given.append(("e1", answer.behavior)))
    named(asks._open["e1"].card, "Allow once").click()
    await soon()
    assert given == [("e1", "allow")]
    asks.resolved(PermissionResolved("e1", "allow", "once", ""))
    assert WIDGET in screen.now[0]
    late = asks._open["b1"].card
    asks.close()
    assert [shown["text/plain"] for shown in screen.now] == [
        "Not answered: Bash `rm x`",
        "Allowed once: Edit `x.py`",
    ]
    asyncio.get_running_loop().call_soon(late._answer, Answer("allow"))  # type: ignore[union-attr]
    await soon()
    assert given == [("e1", "allow")]


@pytest.mark.usefixtures("no_widgets")
async def test_an_answer_that_comes_too_late_is_said_on_the_card() -> None:
    """The turn may have ended by itself meanwhile."""

    def refuse(answer: Answer) -> None:
        raise ClaudeError("No permission request 'b1' waits <any> more.")

    card = ApprovalCard(bash(), refuse)
    named(card, "Allow once").click()
    await soon()
    shown = "".join(getattr(part, "value", "") for part in parts(card.widget))
    assert "No permission request 'b1' waits &lt;any&gt; more." in shown
    card.close()


async def test_the_card_says_all_that_would_be_done() -> None:
    """A command to its last character, all else that changes it, and what would be allowed."""
    command = "echo <b>" + "x" * 30_000 + "\n" + "true\n" * 400 + "rm -rf ~"
    given = bash(command, description="Greet", run_in_background=True)
    card = ApprovalCard(given, lambda answer: None)
    html = "".join(getattr(part, "value", "") for part in parts(card.widget))
    assert "x" * 30_000 in html
    assert html.count("true\n") == 400
    assert "rm -rf ~" in html
    assert "run_in_background: True" in html
    assert "Greet" in html
    assert "<b>" not in html
    assert "For this conversation: Bash(rm *)" in html
    assert "Bash(rm *)" in named(card, "Allow for this conversation").tooltip
    plain = card.bundle()["text/plain"]
    assert "    rm -rf ~" in plain
    assert "%config ClaudeMagics.approvals = 'input'" in plain
    card.close()


def test_an_edit_is_shown_as_its_diff() -> None:
    """In colours; where the core could tell none, what the input says."""
    assert "a = 2" in permission.html(edit())
    assert "old_string" not in permission.html(edit())
    assert "\x1b[32m+a = 2" in permission.text(edit(), colours=True)
    assert "all changes to files in the folder" in permission.scope(edit())
    untold = PermissionRequest("e", "Write", {"file_path": "y", "content": "1"}, "?", "", None, "")
    assert "@@ -0,0 +1 @@" in permission.text(untold)
    assert permission.scope(untold) == ""


def test_what_turns_the_direction_of_writing_is_spelled_out() -> None:
    """A command cannot read as another one."""
    shown = permission.html(bash("rm \u202ex"))
    assert "\u202e" not in shown
    assert "&lt;U+202E&gt;" in shown


async def test_words_are_asked_below_what_would_be_done(
    screen: Screen, types: Callable[..., list[str]]
) -> None:
    """An empty line asks again; the answer takes the question's place."""
    given: list[Answer] = []
    asked = types("", "a")
    asks = Approvals(shell("6.31.0"))
    asks.ask(bash(), given.append)
    assert given == [Answer("allow", "conversation")]
    question = "Allow Bash `rm x`? [y]es once / [a]lways in this conversation / [n]o, or a reason: "
    assert asked == [question, question]
    assert "rm x" in screen.now[0]["text/html"]
    asks.resolved(PermissionResolved("b1", "allow", "conversation", ""))
    assert screen.now[0]["text/plain"].startswith("Allowed for this conversation: Bash `rm x`")


async def test_a_terminal_is_told_what_would_be_done(
    capsys: pytest.CaptureFixture[str], screen: Screen, types: Callable[..., list[str]]
) -> None:
    """Nothing is displayed there: the call's own line says how it was answered."""
    given: list[Answer] = []
    types("no, read it first")
    asks = Approvals(shell(), "input")
    asks.ask(edit(), given.append)
    asks.resolved(PermissionResolved("e1", "deny", "once", ""))
    assert given == [Answer("deny", message="no, read it first")]
    printed = capsys.readouterr().out
    assert "Claude wants to edit x.py.\n" in printed
    assert "    +a = 2\n" in printed
    assert "For this conversation: Edit(**)" in printed
    assert screen.drawn == []


@pytest.mark.parametrize("missing", [EOFError(), StdinNotImplementedError()])
async def test_where_nothing_can_be_typed_it_is_denied(
    screen: Screen, types: Callable[..., list[str]], missing: BaseException
) -> None:
    """With the sentence that names the options."""
    given: list[Answer] = []
    types(missing)
    Approvals(shell("7.4.0"), "input").ask(bash(), given.append)
    assert given == [Answer("deny", message=permission.nobody(bash()))]


async def test_where_nobody_is_it_is_denied_at_once(screen: Screen) -> None:
    """The model and the cell are told which options would allow it."""
    given: list[Answer] = []
    asks = Approvals(shell("7.4.0", stdin=False))
    asks.ask(bash(), given.append)
    asks.ask(edit(), given.append)
    assert [answer.message for answer in given] == [
        "Nobody can be asked here (the notebook is run without a person): allow it beforehand "
        "with --tools 'Bash(rm *)'.",
        "Nobody can be asked here (the notebook is run without a person): allow it beforehand "
        "with -p acceptEdits or --tools 'Edit(**)'.",
    ]
    asks.resolved(PermissionResolved("b1", "deny", "once", given[0].message))
    assert screen.now[0]["text/plain"] == f"Denied: Bash `rm x` · {given[0].message}"


async def test_the_stop_button_ends_the_question_and_the_cell(
    screen: Screen, types: Callable[..., list[str]]
) -> None:
    """Nothing is answered; the cell's task is cancelled, as by the button at any other time."""
    given: list[Answer] = []
    types(KeyboardInterrupt())

    async def cell() -> None:
        with sigint_cancels():
            Approvals(shell("6.31.0")).ask(bash(), given.append)
            await asyncio.sleep(PATIENCE)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.get_running_loop().create_task(cell())
    assert given == []


SETUP = """
import asyncio
from jupyter_ccapi.claude import PermissionRequest, PermissionResolved
from jupyter_ccapi.notebook.approvals import Approvals
from jupyter_ccapi.notebook.blocking import run_sync

REQUEST = PermissionRequest("b1", "Bash", {"command": "ls"}, "Bash?", "", None, "Bash(ls)")

async def asked(how="auto"):
    told = asyncio.Queue()
    asks = Approvals(get_ipython(), how)
    asks.ask(REQUEST, told.put_nowait)
    answer = await told.get()
    asks.resolved(PermissionResolved("b1", answer.behavior, answer.scope, answer.message))
    print(answer.behavior, answer.scope, answer.message)
"""


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A real kernel in which `asked()` asks."""
    home = tmp_path_factory.mktemp("asking")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(home / ".ipython")}
    running = Kernel(env, Path(home))
    assert running.run(SETUP).status == "ok"
    yield running
    running.shut_down()


class Front:
    """A frontend that runs one cell: it knows the cell's buttons, and what it displays."""

    def __init__(self, kernel: Kernel, code: str, *, stdin: bool = True) -> None:
        self.client = kernel.client
        self.request = self.client.execute(code, allow_stdin=stdin)
        self.buttons: dict[str, str] = {}
        self.bundles: list[dict[str, Any]] = []
        self.printed = ""
        self.error = ""
        self.idle = False

    def read_until(self, seen: Callable[["Front"], object]) -> "Front":
        """Read until this is seen."""
        while not seen(self):
            self._take(self.client.get_iopub_msg(timeout=PATIENCE))
        return self

    def click(self, words: str) -> None:
        """Click a button, as a browser tells a kernel that."""
        data = {"method": "custom", "content": {"event": "click"}}
        content = {"comm_id": self.buttons[words], "data": data}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def type(self, line: str) -> str:
        """Type a line where one is asked for; return the question."""
        asked = self.client.get_stdin_msg(timeout=PATIENCE)
        self.client.input(line)
        return str(asked["content"]["prompt"])

    def _take(self, message: dict[str, Any]) -> None:
        content, kind = message["content"], message["msg_type"]
        if kind == "comm_open":
            state = content["data"].get("state", {})
            self.buttons[str(state.get("description"))] = content["comm_id"]
        if message["parent_header"].get("msg_id") != self.request:
            return
        if kind in ("display_data", "update_display_data"):
            self.bundles.append(content["data"])
        elif kind == "stream":
            self.printed += content["text"]
        elif kind == "error":
            self.error = content["ename"]
        elif kind == "status":
            self.idle = content["execution_state"] == "idle"


def test_a_click_arrives_while_the_cell_runs(asking: Kernel) -> None:
    """In a real kernel; what is left of the card is HTML."""
    cell = Front(asking, "await asked()").read_until(lambda cell: cell.bundles)
    assert WIDGET in cell.bundles[0]
    cell.click("Allow for this conversation")
    cell.read_until(lambda cell: cell.idle)
    assert cell.printed == "allow conversation \n"
    assert set(cell.bundles[-1]) == {"text/html", "text/plain"}


def test_a_kernel_without_stdin_denies(asking: Kernel) -> None:
    """As nbclient and papermill run one."""
    cell = Front(asking, "await asked()", stdin=False).read_until(lambda cell: cell.idle)
    assert cell.printed.startswith("deny once Nobody can be asked here")
    assert WIDGET not in cell.bundles[0]


def test_a_cell_that_blocks_is_asked_in_words(asking: Kernel) -> None:
    """No click arrives while the kernel's loop is driven from within."""
    cell = Front(asking, "run_sync(asked())")
    assert cell.type("not here").startswith("Allow Bash `ls`? [y]es once")
    cell.read_until(lambda cell: cell.idle)
    assert "deny once not here" in cell.printed


def test_the_stop_button_ends_a_question_in_words(asking: Kernel) -> None:
    """The kernel does not wait for a line for ever."""
    cell = Front(asking, "await asked('input')")
    cell.client.get_stdin_msg(timeout=PATIENCE)
    asking.interrupt()
    cell.read_until(lambda cell: cell.idle)
    assert cell.error in ("CancelledError", "KeyboardInterrupt")
    assert asking.run("1").status == "ok"
