"""Back to before a prompt, from the timeline in a cell: the files and the conversation."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.browser.page import NotebookPage
from tests.notebook.kernels import roles_and_texts

pytestmark = pytest.mark.browser

FIRST = "# Notes\n\nFirst.\n"
SECOND = "# Notes\n\nSecond.\n"
THIRD = "# Notes\n\nThird.\n"


def press(where: Locator, name: str) -> None:
    """Press a button."""
    where.get_by_role("button", name=name, exact=True).click()


def asks_for(notebook: NotebookPage, model: OfflineModel, prompt: str, *calls: Reply) -> None:
    """Run a cell in which Claude may change files."""
    model.script(*calls, Reply(f"That was {prompt.lower()}"))
    notebook.asked(f"%%claude -p acceptEdits\n{prompt}")


def prompts(model: OfflineModel) -> list[str]:
    """Return the user's prompts in what the model was sent last."""
    said = roles_and_texts(model.main_requests[-1].messages)
    return [text for role, text in said if role == "user"]


def test_a_rewind_from_the_timeline_is_looked_at_done_and_taken_back(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """The preview shows the diff; then files and conversation are as before the prompt."""
    file = notebook.folder / "notes.md"
    path = str(file)
    write = Reply(tools=[("Write", {"file_path": path, "content": FIRST})])
    asks_for(notebook, model, "The first.", write)
    for before, after in (("First", "Second"), ("Second", "Third")):
        edit = {"file_path": path, "old_string": before, "new_string": after}
        asks_for(notebook, model, f"The {after.lower()}.", Reply(tools=[("Edit", edit)]))
    assert file.read_text() == THIRD
    shown = notebook.asked("from jupyter_ccapi import Claude\nClaude('default').timeline()")
    timeline = notebook.outputs(shown).first
    expect(timeline.get_by_text("3 checkpoints")).to_be_visible()
    rows = timeline.locator(".widget-hbox").filter(has=notebook.page.get_by_text("Preview"))
    expect(rows).to_have_count(3)
    shot(notebook, "timeline")

    press(rows.filter(has_text="The second."), "Preview")
    told = timeline.get_by_text("A rewind to before prompt 2")
    expect(told).to_be_visible()
    timeline.locator("summary").filter(has_text="notes.md").click()
    expect(timeline.locator("details").filter(has_text="Third.")).to_contain_text("First.")
    shot(notebook, "preview")
    press(timeline, "Close")
    expect(told).to_have_count(0)
    assert file.read_text() == THIRD

    press(rows.filter(has_text="The second."), "Rewind…")
    expect(told).to_be_visible()
    shot(notebook, "asked")
    press(timeline, "Rewind")
    expect(timeline.get_by_text("Rewound to before prompt 2")).to_be_visible()
    expect(timeline.get_by_text("1 checkpoint", exact=True)).to_be_visible()
    assert file.read_text() == FIRST
    shot(notebook, "rewound")

    press(timeline, "Undo last rewind…")
    press(timeline, "Undo")
    expect(timeline.get_by_text("was taken back")).to_be_visible()
    expect(rows).to_have_count(3)
    assert file.read_text() == THIRD
    shot(notebook, "undone")
    asks_for(notebook, model, "The fourth.")
    assert prompts(model) == ["The first.", "The second.", "The third.", "The fourth."]

    # Again, by keyboard, and this time it is gone on from there.
    expect(rows).to_have_count(4)
    rows.filter(has_text="The second.").get_by_role("button", name="Rewind…").focus()
    notebook.page.keyboard.press("Enter")
    expect(told).to_be_visible()
    notebook.tab_to("Rewind")
    notebook.page.keyboard.press("Enter")
    expect(timeline.get_by_text("Rewound to before prompt 2")).to_be_visible()
    assert file.read_text() == FIRST
    asks_for(notebook, model, "The other.")
    assert prompts(model) == ["The first.", "The other."]
    expect(timeline.get_by_text("2 checkpoints", exact=True)).to_be_visible()
