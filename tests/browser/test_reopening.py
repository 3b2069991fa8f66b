"""A notebook that is opened again, by others too: all reads as it looked, without a widget."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.browser.page import NotebookPage

pytestmark = pytest.mark.browser

ANSWER = """\
It is **written**, in `notes.md`:

| name | value |
| --- | ---: |
| one | 1 |

And $1 + 2 = 3$.
"""
PLOT = """\
from PIL import Image
print("drawn")
Image.new("RGB", (80, 40), "teal")
"""


def work(notebook: NotebookPage, model: OfflineModel) -> list[int]:
    """Run cells that show all there is; return the numbers of those with outputs."""
    notes = notebook.folder / "notes.md"
    notes.write_text("# Notes\n\nOne line.\n")
    edit = {"file_path": str(notes), "old_string": "One line.", "new_string": "Two <b>lines</b>."}
    model.script(
        Reply(thinking="Let me see.", tools=[("Read", {"file_path": str(notes)})]),
        Reply("I write it.", tools=[("Edit", edit)]),
        Reply(tools=[("Bash", {"command": "ls; cat nothing", "description": "Look around"})]),
        Reply(tools=[("mcp__client__run_python", {"code": PLOT})]),
        Reply(ANSWER),
    )
    asked = notebook.ask("%%claude\nWrite notes.")
    for about in ("notes.md", "PIL"):
        card = notebook.approval(asked).filter(has_text=about)
        card.get_by_role("button", name="Allow once").click()
        expect(card).to_have_count(0)
    notebook.wait_until_run(asked)
    model.script(Reply("Once", tools=[("Bash", {"command": "touch never.txt"})]))
    stopped = notebook.ask("%%claude\nMake a file.")
    expect(notebook.approval(stopped)).to_have_count(1)
    notebook.stop()
    notebook.wait_until_run(stopped)
    lines = ["%claude_checkpoints", "%claude_rewind 1 --dry-run", "%claude_status"]
    return [asked, stopped, *(notebook.asked(line) for line in lines)]


def looks(notebook: NotebookPage, numbers: list[int]) -> list[list[str]]:
    """Unfold every card with a click, and return what all outputs read as."""
    for number in numbers:
        for summary in notebook.cell(number).locator("summary").all():
            summary.click()
    return [notebook.texts(number) for number in numbers]


def colours(notebook: NotebookPage, index: int) -> list[str]:
    """Return the background of each line of the diffs that a cell shows."""
    found: list[str] = notebook.cell(index).evaluate(
        """cell => [...cell.querySelectorAll('details pre div')].map(
            line => getComputedStyle(line).backgroundColor)"""
    )
    return found


def test_a_saved_notebook_reads_as_it_looked(
    notebook: NotebookPage,
    new_page: Callable[[], Page],
    model: OfflineModel,
    shot: Callable[[NotebookPage, str], None],
) -> None:
    """It does so where it was made, and untrusted, for somebody else; without a widget."""
    numbers = work(notebook, model)
    asked = numbers[0]
    shot(notebook, "live")
    looked = looks(notebook, numbers)
    coloured = colours(notebook, asked)
    assert len(set(coloured)) > 2
    told = str(looked)
    assert "Two <b>lines</b>." in told
    assert "No such file" in told
    assert "drawn" in told
    shot(notebook, "unfolded")
    notebook.save()
    notebook.end_kernel()
    file = notebook.lab.root / notebook.path
    saved = json.loads(file.read_text())
    assert "widget" not in str([cell.get("outputs") for cell in saved["cells"]])

    again = NotebookPage.load(new_page(), notebook.lab, notebook.path)
    assert again.trusts(asked)
    assert looks(again, numbers) == looked
    assert colours(again, asked) == coloured

    # Changed by a hand that is not this user's, it is not trusted any more.
    saved["cells"][0]["source"] = "print('changed')"
    file.write_text(json.dumps(saved))
    others = NotebookPage.load(new_page(), notebook.lab, notebook.path)
    assert not others.trusts(asked)
    assert looks(others, numbers) == looked
    assert colours(others, asked) == coloured
    picture = others.outputs(asked).locator("details img")
    assert picture.evaluate("image => image.naturalWidth") == 80
    shot(others, "untrusted")
