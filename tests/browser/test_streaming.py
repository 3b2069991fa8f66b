"""An answer in JupyterLab: drawn while the model speaks, and what is drawn stays where it is."""

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.browser.page import Frame, NotebookPage
from tests.notebook.kernels import ROOT

pytestmark = pytest.mark.browser

MANUAL = ROOT / "notebooks" / "01_first_steps.ipynb"

REFUSALS = 9
"""Claude Code asks less often before it says that it was refused."""

LINE = 22
"""A line of the extension's own is so high, in pixels."""

PLAN = """\
## What I do

First I *look* at the **data**, then I say:

1. what is in it,
2. what is wrong with it.

"""
FOUND = """\
There are **two** rows, as in `numbers.csv`:

| name | value |
| --- | ---: |
| one | 1 |
| two | 2 |

```python
rows = [("one", 1), ("two", 2)]
total = sum(value for _, value in rows)
```

Both are right.
"""


def jumps(frames: list[Frame]) -> list[str]:
    """Say where an output that was drawn has moved, and where the outputs have lost height."""
    found: list[str] = []
    tops: dict[int, float] = {}
    highest = 0.0
    for frame in frames:
        for number, output in enumerate(frame.outputs):
            if output.height:
                top = tops.setdefault(number, output.top)
                if abs(output.top - top) > 1:
                    found.append(f"output {number} at {top} is at {output.top}: {output.text!r}")
        if frame.height < highest - LINE - 1:
            found.append(f"{highest} pixels became {frame.height}: {frame.outputs}")
        highest = max(highest, frame.height)
    return found


def test_an_answer_grows_and_nothing_that_is_drawn_moves(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """Thoughts, text, tool calls, text: each comes below the others, and none of them moves."""
    file = notebook.folder / "numbers.csv"
    file.write_text("name,value\none,1\ntwo,2\n")
    read = ("Read", {"file_path": str(file)})
    slow = ("Bash", {"command": "sleep 0.5; wc numbers.csv"})
    model.script(
        Reply(PLAN, thinking="There may be more. " * 20, tools=[read], word_delay=0.02),
        Reply(tools=[slow, ("Bash", {"command": "cat numbers.csv"})]),
        Reply(FOUND, word_delay=0.02),
    )
    asked = notebook.write("%%claude --tools 'Bash(sleep *),Bash(wc *)'\nWhat is in my numbers?")
    with notebook.watched(asked) as frames:
        notebook.run(asked)
        notebook.wait_until_run(asked)
    shot(notebook, "done")

    assert jumps(frames) == []
    texts = notebook.texts(asked)
    begin = ["Thought for", "What I do", "Read", "Bash", "Bash", "There are two rows", "claude-"]
    assert all(map(str.startswith, texts, begin)), texts
    assert len(texts) == len(begin)
    for number in (1, 5):
        seen = {frame.outputs[number].text for frame in frames if len(frame.outputs) > number}
        assert len(seen) > 5, "it has come at once"


def test_the_manuals_first_cell_is_drawn_while_the_model_speaks(
    opens: Callable[..., NotebookPage],
    model: OfflineModel,
    shot: Callable[[NotebookPage, str], None],
) -> None:
    """What is bold is bold before the sentence has ended. Thoughts unfold with a click."""
    notebook = opens(MANUAL)
    asked = notebook.index("%%claude\nWhat")
    gate = threading.Event()
    model.script(
        Reply("", thinking="Two kinds.", tools=[("mcp__client__list_variables", {})]),
        Reply("**Lists**\u00a0are mutable, tuples are not.", hold=gate),
    )
    notebook.run(asked)
    thoughts, _, answer, footer = (notebook.outputs(asked).nth(number) for number in range(4))
    expect(answer.locator("strong")).to_have_text("Lists")
    expect(answer).not_to_contain_text("mutable")
    shot(notebook, "speaking")
    gate.set()
    expect(answer).to_have_text("Lists\u00a0are mutable, tuples are not.")
    expect(footer).to_contain_text("tokens in")
    notebook.wait_until_run(asked)

    text = thoughts.get_by_text("Two kinds.")
    expect(text).to_be_hidden()
    thoughts.locator("summary").click()
    expect(text).to_be_visible()
    shot(notebook, "unfolded")


def test_a_failed_turn_stops_run_all(
    opens: Callable[..., NotebookPage],
    model: OfflineModel,
    shot: Callable[[NotebookPage, str], None],
) -> None:
    """The cell shows one sentence; the cell after it does not run."""
    notebook = opens(MANUAL)
    model.script(*[Reply(error=ApiError(400, "", "I do not take that."))] * REFUSALS)
    notebook.page.evaluate(
        "() => void window.jupyterapp.commands.execute('notebook:run-all-cells')"
    )

    outputs = notebook.outputs(notebook.index("%%claude\nWhat"))
    expect(outputs).to_have_count(1)
    expect(outputs).to_contain_text("I do not take that.")
    expect(outputs).not_to_contain_text("Traceback")
    notebook.wait_until_idle()
    expect(notebook.outputs(notebook.index("%%claude\nAnd when"))).to_have_count(0)
    shot(notebook, "failed")
