"""What Claude can see of a live kernel and do in it, called as the core calls it, in a real one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernels import Cell, Kernel

# `_call` prints what a tool answered, and what it reported, as the last line of the cell.
_PRELUDE = """
import asyncio as _asyncio, json as _json
from IPython.display import display as _display, update_display as _update_display
from jupyter_ccapi.notebook.kernel_tools import kernel_tools as _kernel_tools
from jupyter_ccapi.notebook.stop_button import sigint_cancels as _sigint_cancels

_set, _stopped, _gate = [], [], _asyncio.Lock()
_offered = _kernel_tools(
    get_ipython(), _gate, lambda names: _set.append((_gate.locked(), names)),
    lambda: _stopped.append(True),
)
_tools = {tool.name: tool for tool in _offered}

async def _call(name, /, **given):
    _set.clear(), _stopped.clear()
    said = {}
    with _sigint_cancels():
        try:
            said["answer"] = await _tools[name].handler(given)
        except Exception as error:
            said["error"], said["kind"] = str(error), type(error).__name__
    _gate.locked() and said.update(locked=True)
    print("\\x1e" + _json.dumps({**said, "set": _set, "stopped": _stopped}))
"""


@pytest.fixture(scope="module")
def live(env: dict[str, str], home: Path) -> Iterator[Kernel]:
    """A real kernel that has the tools; what it shares with the tests begins with an underscore."""
    (home / "kept.ipynb").write_text("{}")
    running = Kernel({**env, "JPY_SESSION_NAME": str(home / "kept.ipynb")}, home)
    assert running.run(_PRELUDE).status == "ok"
    yield running
    running.shut_down()


@pytest.fixture(autouse=True)
def no_variables(live: Kernel) -> None:
    """The tests before have left none."""
    live.run(
        "for _name in [n for n in dir() if not n.startswith('_')]:\n"
        "    if _name not in ('In', 'Out', 'exit', 'quit', 'get_ipython', 'open'): "
        "del globals()[_name]"
    )


def call_line(tool: str, /, **given: object) -> str:
    """The code that calls a tool."""
    return f"await _call({tool!r}, **{given!r})"


def said_in(cell: Cell) -> dict[str, Any]:
    """What the tool said in this cell."""
    assert cell.status == "ok", cell
    said: dict[str, Any] = json.loads(cell.stdout.rpartition("\x1e")[2])
    return said


def call(kernel: Kernel, tool: str, /, **given: object) -> dict[str, Any]:
    """Call a tool and return what it said."""
    return said_in(kernel.run(call_line(tool, **given)))


def answer(kernel: Kernel, tool: str, /, **given: object) -> Any:
    """Call a tool and return its answer."""
    said = call(kernel, tool, **given)
    assert "answer" in said, said
    return said["answer"]


def test_only_running_asks(live: Kernel) -> None:
    """Reading is allowed without a question, and runs beside other calls."""
    said = live.run("print([(t.name, t.asks, t.parallel) for t in _offered])").stdout
    assert "('run_python', True, False)" in said
    assert said.count("False, True") == 4


def test_variables_are_listed_by_name_type_and_size(live: Kernel) -> None:
    """Neither modules nor what IPython put there nor what is private."""
    live.run(
        "import sys, numpy as np\nzoo = ['ape'] * 3\narr = np.zeros((2, 3))\n_secret = 1\n"
        "def area(r, pi=3): ...\nclass Box: ...\nbox = Box()"
    )
    assert answer(live, "list_variables").splitlines() == [
        "Box: class Box",
        "area: function area(r, pi=3)",
        "arr: numpy.ndarray: 2 x 3, float64 [48 bytes]",
        "box: Box",
        "zoo: ['ape', 'ape', 'ape']",
    ]
    assert answer(live, "list_variables", pattern="a*").count("\n") == 1
    assert answer(live, "list_variables", pattern="q*") == (
        "No variable matches 'q*' (5 have other names)."
    )


def test_many_variables_are_not_all_listed(live: Kernel) -> None:
    """And it is said how many are left out, and how to see them."""
    live.run("globals().update({f'v{i:03}': 'x' * i for i in range(300)})")
    lines = answer(live, "list_variables").splitlines()
    assert lines[-1] == "… and 100 more: name a pattern."
    assert len(lines) == 201
    assert max(map(len, lines)) < 200


def test_inspecting_goes_by_names_and_runs_no_code(live: Kernel) -> None:
    """Attributes and dotted names; what would be computed is refused, the near name is named."""
    live.run(
        "class Box:\n    def __init__(self): self.side = [1, 2]\n    @property\n"
        "    def area(self): globals()['ran'] = True\nbox = Box()"
    )
    assert answer(live, "inspect_variable", name="box.side").splitlines()[2] == "[1, 2]"
    assert "which is not run" in call(live, "inspect_variable", name="box.area")["error"]
    assert call(live, "inspect_variable", name="bax")["error"] == (
        "There is no variable 'bax': did you mean box?"
    )
    for code in ("box.side[0]", "print(1)", "", "box."):
        assert "nothing is evaluated" in call(live, "inspect_variable", name=code)["error"]
    assert "ran" not in answer(live, "list_variables")


def test_code_runs_in_the_users_namespace(live: Kernel) -> None:
    """The value comes back, the names that were set are told while the gate is held still."""
    live.run("x = 20\nrows = {}\nkept = [1]")
    said = call(live, "run_python", code="import os\nprint('hi')\ny = x + 1\nrows['a'] = 1\ny * 2")
    assert said["answer"] == "hi\nOut: 42"
    assert said["set"] == [[True, ["rows", "y"]]]
    assert live.run("print(y, rows)").stdout == "21 {'a': 1}\n"
    assert "locked" not in said


def test_code_leaves_history_and_outputs_of_the_user_alone(live: Kernel) -> None:
    """`_`, `Out` and `In` are the user's, and nothing is shown in the user's cell."""
    live.run("111")
    cell = live.run(call_line("run_python", code="print('secret')\n222") + "\nprint(_)")
    assert "secret" not in cell.stdout.partition("\x1e")[0]
    assert cell.stdout.splitlines()[-1] == "111"
    assert "222" not in live.run("print(list(Out.values()))").stdout


def test_code_that_says_nothing_is_said_to_have_run(live: Kernel) -> None:
    """So is a value that a semicolon silences."""
    for code in ("x = 1", "5;", "# a comment", ""):
        assert answer(live, "run_python", code=code) == "(It ran, and put nothing out.)"


def test_top_level_await_and_tasks_work(live: Kernel) -> None:
    """On the kernel's own loop."""
    code = "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 7\n"
    assert answer(live, "run_python", code=f"{code}await asyncio.create_task(f())") == "Out: 7"


def test_magics_and_commands_work_as_in_a_cell(live: Kernel) -> None:
    """Also those that take the whole cell; escape codes are left out."""
    assert answer(
        live, "run_python", code="!echo from the shell; printf '\\033[31mred\\033[0m'"
    ) == ("from the shell\nred")
    assert "Wall time" in answer(live, "run_python", code="%%time\nx = 5")
    assert answer(live, "run_python", code="files = !echo one\nfiles[0]") == "Out: 'one'"
    assert call(live, "run_python", code="%nosuchmagic")["error"].startswith("UsageError: Line mag")


@pytest.mark.parametrize("code", ["%%claude\nHello", "%claude hello", "%claude_rewind 1"])
def test_a_turn_within_a_turn_is_refused(live: Kernel, code: str) -> None:
    """It would wait for itself."""
    assert "cannot be run from within a turn" in call(live, "run_python", code=code)["error"]


def test_an_error_is_told_with_a_traceback_of_the_users_code_alone(live: Kernel) -> None:
    """With what was printed before; the cell that calls the tool goes on, and shows nothing."""
    live.run("def fail(n):\n    return 1 / n")
    cell = live.run(call_line("run_python", code="done = 1\nprint('before')\nfail(0)"))
    said = said_in(cell)
    assert said["kind"] == "CodeFailed"
    lines = said["error"].splitlines()
    assert lines[:2] == ["before", "Traceback (most recent call last):"]
    assert lines[2] == '  File "run_python", line 3, in <module>'
    assert "return 1 / n" in said["error"]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "jupyter_ccapi" not in said["error"]
    assert said["set"] == [[True, ["done"]]]
    assert not cell.error
    assert not cell.stderr


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = (", "SyntaxError: '(' was never closed"),
        ("if 1:\nx", "IndentationError: expected an indented block after 'if' statement on line 1"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyError('k') from ValueError('v')", "KeyError: 'k'"),
        ("import asyncio\nraise asyncio.CancelledError", "asyncio.exceptions.CancelledError"),
        ("return 5", "SyntaxError: 'return' outside function"),
    ],
)
def test_whatever_goes_wrong_is_the_models_to_read(live: Kernel, code: str, error: str) -> None:
    """No error of the code ends the turn or the kernel."""
    said = call(live, "run_python", code=code)["error"]
    assert said.splitlines()[-1] == error
    assert "ipykernel" not in said


def test_what_magics_show_of_errors_is_caught_too(live: Kernel) -> None:
    """IPython shows such errors by itself, past stdout and stderr."""
    cell = live.run(call_line("run_python", code="%%timeit -n1 -r1\nraise ValueError('inside')"))
    assert "inside" in str(said_in(cell))
    cell = live.run(call_line("run_python", code="get_ipython().run_cell('1/0');"))
    assert "ZeroDivisionError" in said_in(cell)["answer"]
    assert not cell.error


def test_pictures_come_back_as_pictures(live: Kernel) -> None:
    """Figures that are left open too, as a cell shows them."""
    live.run("%matplotlib inline")
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('drawn');"
    text, picture = answer(live, "run_python", code=code)
    assert text == {"type": "text", "text": "drawn\n[picture 1]"}
    assert picture["type"] == "image"
    assert picture["mimeType"] == "image/png"
    assert picture["data"].startswith("iVBOR")
    assert answer(live, "run_python", code="plt.get_fignums()") == "Out: []"


def test_the_first_figure_of_a_kernel_is_a_picture(env: dict[str, str], home: Path) -> None:
    """Before any cell has set matplotlib up."""
    fresh = Kernel(env, home)
    fresh.run(_PRELUDE)
    code = "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1]);"
    said = call(fresh, "run_python", code=code)
    fresh.shut_down()
    assert [block["type"] for block in said["answer"]] == ["text", "image"]
    assert said["set"] == [[True, ["ax", "fig"]]]


def test_figures_are_pictures_without_the_inline_backend_too(live: Kernel) -> None:
    """Those that the code has opened; they stay open, as such backends have it."""
    live.run("import matplotlib.pyplot as plt\nplt.switch_backend('agg')\nold = plt.figure()")
    code = "fig = plt.figure(); fig.add_subplot().plot([1]);"
    text, picture = answer(live, "run_python", code=code)
    assert text["text"] == "[picture 1]"
    assert picture["data"].startswith("iVBOR")
    assert answer(live, "run_python", code="plt.get_fignums()") == "Out: [1, 2]"
    broken = "plt.figure().savefig = None"
    assert "Figure 3 cannot be drawn: it raised" in answer(live, "run_python", code=broken)
    live.run("plt.close('all')\nplt.switch_backend('inline')")


def test_only_so_many_pictures_are_given(live: Kernel) -> None:
    """The others are counted; what is no picture for the model is named."""
    code = (
        "import io\nfrom PIL import Image as _I\n"
        "_b = io.BytesIO(); _I.new('L', (2, 2)).save(_b, 'png')\n"
        "from IPython.display import display, Image, SVG\n"
        "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\n"
        "for _ in range(10): display(Image(_b.getvalue()))"
    )
    text, *pictures = answer(live, "run_python", code=code)
    assert len(pictures) == 8
    assert "[picture 10 is left out: only 8 are given at once]" in text["text"]


def test_displays_are_told_as_they_are_in_the_end(live: Kernel) -> None:
    """Updated, cleared, and with what an HTML display holds."""
    code = (
        "from IPython.display import *\n"
        "display('gone'); clear_output()\n"
        "h = display('old', display_id=True); h.update('new')\n"
        "display(HTML('<b>bold</b>'), Markdown('*text*'))\n"
        "import sys; print('oops', file=sys.stderr)\n"
        "print('10%\\r50%\\r100%')"
    )
    assert answer(live, "run_python", code=code).splitlines() == [
        "'new'",
        "<b>bold</b>",
        "*text*",
        "[stderr] oops",
        "100%",
    ]


def test_an_earlier_display_of_the_user_is_updated_where_it_is(live: Kernel) -> None:
    """As a cell would do it."""
    cell = live.run(
        "_ = _display('old', display_id='mine')\n"
        + call_line("run_python", code="_update_display('new', display_id='mine')")
    )
    assert cell.lines == ["'new'"]


def test_much_output_is_cut_in_the_middle(live: Kernel) -> None:
    """Both ends are told, and how much is missing."""
    text = answer(live, "run_python", code="for i in range(200_000): print('line', i)")
    assert len(text) < 31_000
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 199999")
    assert "characters cut] …" in text
    assert len(answer(live, "run_python", code="['x' * 50] * 5000")) < 31_000


def test_code_is_run_between_the_events_of_a_cell(live: Kernel, home: Path) -> None:
    """By which autoreload knows a module that was just edited."""
    (home / "edited.py").write_text("answer = 1\n")
    live.run("%load_ext autoreload\n%autoreload 2\nimport edited")
    (home / "edited.py").write_text("answer = 'the second, and longer'\n")
    assert "the second" in answer(live, "run_python", code="edited.answer")


BUSY = [
    pytest.param("while True: pass", id="computing"),
    pytest.param("import time; time.sleep(600)", id="sleeping"),
    pytest.param("import asyncio; await asyncio.sleep(600)", id="awaiting"),
    pytest.param(
        "async def _spin():\n    while True: pass\nawait _spin()", id="computing in a coroutine"
    ),
    pytest.param("try:\n    while True: pass\nexcept BaseException: print('no')", id="caught"),
]


@pytest.mark.parametrize("busy", BUSY)
def test_the_stop_button_ends_code(live: Kernel, busy: str) -> None:
    """Whatever it does; the caller and the model are told, with what was printed until then."""
    code = f"x = 1\nprint('so far')\n_update_display('runs', display_id='state')\n{busy}"
    cell = live.start(
        "_ = _display('waits', display_id='state')\n" + call_line("run_python", code=code)
    )
    cell.wait_until(lambda shown: shown.lines == ["'runs'"])
    live.interrupt()
    said = said_in(cell.finish())

    assert said["kind"] == "Interrupted"
    assert said["error"].startswith("The user has stopped this code.\nso far")
    assert said["stopped"] == [True]
    assert said["set"] == [[True, ["x"]]]
    assert answer(live, "run_python", code="x + 1") == "Out: 2"


def test_the_stop_button_ends_a_command(live: Kernel, home: Path) -> None:
    """It is pressed when the command runs: while Python forks, an interrupt may be lost."""
    os.mkfifo(home / "runs")
    cell = live.start(call_line("run_python", code="!echo so far; echo yes > runs; sleep 600"))
    assert (home / "runs").read_text() == "yes\n"
    live.interrupt()
    said = said_in(cell.finish())

    assert said["kind"] == "Interrupted"
    assert said["stopped"] == [True]


def test_cells_are_interrupted_as_ever_after_code_has_run(live: Kernel) -> None:
    """The handler that stood there before is there again."""
    live.run(call_line("run_python", code="1"))
    cell = live.start("print('on', flush=True)\nwhile True: pass")
    cell.wait_until(lambda shown: shown.stdout)
    live.interrupt()
    assert cell.finish().error["ename"] == "KeyboardInterrupt"


def test_a_call_that_is_cancelled_lets_the_gate_and_the_streams_go(live: Kernel) -> None:
    """As when its turn ends by a time limit."""
    cell = live.run(
        "_t = _asyncio.ensure_future(_tools['run_python'].handler("
        "{'code': 'import asyncio\\nawait asyncio.sleep(600)'}))\n"
        "while not _gate.locked(): await _asyncio.sleep(0)\n"
        "_t.cancel()\n"
        "try: await _t\nexcept _asyncio.CancelledError: print('cancelled', _gate.locked())"
    )
    assert cell.stdout == "cancelled False\n"


def payloads(cell: Cell) -> list[dict[str, Any]]:
    """The cells that the frontend was asked to add."""
    return [p for p in cell.reply["payload"] if p["source"] == "set_next_input"]


def test_a_cell_is_proposed_and_not_run(live: Kernel) -> None:
    """It comes with the end of the running cell, below it."""
    cell = live.run(call_line("add_cell", source="proposed = 1\n"))
    assert "Proposed" in said_in(cell)["answer"]
    assert payloads(cell) == [
        {"source": "set_next_input", "replace": False, "text": "proposed = 1"}
    ]
    assert "proposed" not in answer(live, "list_variables")
    cell = live.run(call_line("add_cell", source="# Title", kind="markdown"))
    assert [payload["text"] for payload in payloads(cell)] == ["%%markdown\n# Title"]


def test_several_proposals_of_a_cell_arrive_as_one(live: Kernel) -> None:
    """A notebook takes one from a cell: the first."""
    cell = live.run(
        "\n".join(
            (
                call_line("add_cell", source="a = 1"),
                call_line("add_cell", source="Then:\n\n* b", kind="markdown"),
                call_line("add_cell", source="b = 2"),
            )
        )
    )
    assert [payload["text"] for payload in payloads(cell)] == [
        "# %%\na = 1\n\n# %% [markdown]\n# Then:\n#\n# * b\n\n# %%\nb = 2"
    ]


def test_a_proposal_must_be_one(live: Kernel) -> None:
    """The model is told what is wrong with it."""
    assert "empty" in call(live, "add_cell", source="  ")["error"]
    assert "code or markdown" in call(live, "add_cell", source="x", kind="raw")["error"]


def notebook(home: Path, *cells: dict[str, Any]) -> None:
    """Save the notebook that the kernel was started for."""
    text = json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    (home / "kept.ipynb").write_text(text)


def test_the_notebook_is_read_with_trimmed_outputs(live: Kernel, home: Path) -> None:
    """Sources whole, outputs short, pictures named, and what was run and not saved."""
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["\x1b[31mred\x1b[0m\n", "x" * 5000]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": "<Fig>"}},
        {"output_type": "execute_result", "data": {"text/plain": ["4", "2"]}},
        {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["long"]},
    ]
    notebook(
        home,
        {"cell_type": "markdown", "source": ["# Title\n", "Words"]},
        {"cell_type": "code", "source": "saved = 42", "execution_count": 3, "outputs": outputs},
    )
    live.run("saved = 42")
    live.run("unsaved = 43\nunsaved")
    text = answer(live, "read_notebook")

    assert "kept.ipynb, as it was saved last (2 cells):" in text
    assert "## Cell 1 (markdown)\n# Title\nWords" in text
    assert "## Cell 2 (code, run as In[3])\nsaved = 42\n### Output: stdout\nred\nxxx" in text
    assert "### Output: a picture (image/png, not included)\n### Output: 42\n" in text
    assert "### Output: error\nValueError: no" in text
    assert "iVBOR" not in text
    assert "x" * 1000 not in text
    since = text.partition("Run in this kernel, and not in the saved file:")[2]
    assert "unsaved = 43\nunsaved\n### Out[" in since
    assert "saved = 42" not in since.replace("unsaved", "")


def test_a_large_notebook_is_cut_in_the_middle(live: Kernel, home: Path) -> None:
    """And says so."""
    cells = [{"cell_type": "code", "source": f"value_{i} = '{'y' * 900}'"} for i in range(200)]
    notebook(home, *cells)
    text = answer(live, "read_notebook")
    assert len(text) < 31_000
    assert "characters cut] …" in text


@pytest.mark.parametrize("broken", ["", "{}", "no json", '{"cells": [1]}', '{"worksheets": []}'])
def test_a_file_that_is_no_notebook_is_said_to_be_none(
    live: Kernel, home: Path, broken: str
) -> None:
    """What has run in the kernel is told all the same."""
    (home / "kept.ipynb").write_text(broken)
    live.run("recent = 1")
    assert "recent = 1" in answer(live, "read_notebook")


def test_the_notebook_is_known_by_what_the_kernel_was_told(live: Kernel, home: Path) -> None:
    """By the server, whole or from the folder that the kernel runs in, or by VS Code; a console's
    name and a file that is gone are none.
    """
    notebook(home)
    (home / "other.ipynb").write_text("")
    live.run(
        "import os\nfrom jupyter_ccapi.notebook.notebook_file import notebook_path\n"
        "def _at(name):\n"
        "    os.environ['JPY_SESSION_NAME'] = name\n"
        "    found = notebook_path(get_ipython())\n"
        "    print(found and found.name)\n"
    )
    for name, found in (
        (str(home / "kept.ipynb"), "kept.ipynb"),
        ("other.ipynb", "other.ipynb"),
        (str(home / "gone.ipynb"), "None"),
        (str(home), "None"),
        ("", "None"),
        ("\\0.ipynb", "None"),
    ):
        if name != "\\0.ipynb":
            assert live.run(f"_at({name!r})").stdout.strip() == found
    assert (
        live.run(
            "__vsc_ipynb_file__ = 'other.ipynb'\n_at('kept.ipynb')\ndel __vsc_ipynb_file__"
        ).stdout.strip()
        == "other.ipynb"
    )
    live.run(f"_at({str(home / 'kept.ipynb')!r})")
