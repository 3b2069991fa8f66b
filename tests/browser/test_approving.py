"""A tool asks for permission while its cell runs, and a person answers on the card."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.browser.page import NotebookPage

pytestmark = pytest.mark.browser


def bash(command: str) -> Reply:
    """A message of the model's that runs a command."""
    return Reply(tools=[("Bash", {"command": command})])


def test_an_approval_is_given_by_keyboard_alone(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """Tab leads to each button; Enter and Space press it; a line tells what was answered."""
    model.script(bash("touch once.txt"), Reply("Done."))
    asked = notebook.ask("%%claude\nMake once.txt.")
    card = notebook.approval(asked)
    expect(card).to_contain_text("touch once.txt")
    assert not (notebook.folder / "once.txt").exists()
    notebook.tab_to("Allow once")
    shot(notebook, "once")
    notebook.page.keyboard.press("Enter")
    notebook.wait_until_run(asked)
    assert (notebook.folder / "once.txt").exists()
    expect(card).to_have_count(0)
    assert "Allowed once: Bash touch once.txt" in notebook.texts(asked)

    # The same call is asked about again; answered for the conversation, it is not any more.
    model.script(bash("touch once.txt"), bash("touch once.txt"), Reply("Done."))
    asked = notebook.ask("%%claude\nMake it again, and again.")
    expect(card := notebook.approval(asked)).to_contain_text("touch once.txt")
    expect(card).to_contain_text("For this conversation: Bash(touch once.txt)")
    notebook.tab_to("Allow for this conversation")
    notebook.page.keyboard.press("Space")
    notebook.wait_until_run(asked)
    lines = [text for text in notebook.texts(asked) if text.startswith("Allowed")]
    assert lines == ["Allowed for this conversation: Bash touch once.txt · Bash(touch once.txt)"]
    shot(notebook, "conversation")

    (notebook.folder / "once.txt").unlink()
    model.script(bash("touch once.txt"), Reply("Done."))
    notebook.asked("%%claude\nAnd once more.")
    assert (notebook.folder / "once.txt").exists()


def test_a_denial_tells_the_model_why(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """The reason is typed on the card of an edit, which shows the diff; Enter denies."""
    notes = notebook.folder / "notes.md"
    notes.write_text("# Notes\n\nOne line.\n")
    edit = {"file_path": str(notes), "old_string": "One line.", "new_string": "Two lines.\nHere."}
    model.script(
        Reply(tools=[("Read", {"file_path": str(notes)})]),
        Reply("I write it.", tools=[("Edit", edit)]),
        Reply("As you like."),
    )
    asked = notebook.ask("%%claude\nWrite more notes.")
    card = notebook.approval(asked)
    expect(card).to_contain_text("Two lines.")
    expect(card).to_contain_text("One line.")
    notebook.tab_to("Reason for a denial (Enter denies)")
    notebook.page.keyboard.type("Only in English, please.")
    shot(notebook, "typed")
    notebook.page.keyboard.press("Enter")
    notebook.wait_until_run(asked)

    expect(card).to_have_count(0)
    (result,) = model.main_requests[-1].tool_results
    assert result.error
    assert "Only in English, please." in result.text
    assert notes.read_text() == "# Notes\n\nOne line.\n"
    line = "Denied: Edit notes.md · Only in English, please."
    assert line in notebook.texts(asked)
    expect(notebook.outputs(asked).filter(has_text=re.compile("^\\s*Edit"))).to_contain_text(
        "denied: Only in English, please."
    )
    shot(notebook, "denied")


def test_two_calls_at_once_are_answered_one_by_one(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """Denied without a reason, a call just does not happen. The next cells wait meanwhile."""
    model.script(
        Reply(
            tools=[
                ("Bash", {"command": "touch left.txt"}),
                ("Bash", {"command": "mkdir right"}),
            ]
        ),
        Reply("Done."),
    )
    asked = notebook.ask("%%claude\nMake both.")
    after = notebook.ask("print('after')")
    cards = notebook.approval(asked)
    expect(cards).to_contain_text("touch left.txt")
    expect(notebook.cell(after).locator(".jp-InputPrompt")).to_have_text("[*]:")
    shot(notebook, "both")
    cards.filter(has_text="touch left.txt").get_by_role("button", name="Deny").click()
    expect(cards).to_have_count(1)
    expect(cards).to_contain_text("mkdir right")
    cards.get_by_role("button", name="Allow once").click()
    notebook.wait_until_run(asked)
    assert not (notebook.folder / "left.txt").exists()
    assert (notebook.folder / "right").exists()
    notebook.wait_until_run(after)
    assert notebook.texts(after) == ["after"]
    shot(notebook, "answered")


def test_a_cell_is_proposed_and_not_run(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """It comes below the running cell, above those that follow, and has no outputs."""
    add = ("mcp__client__add_cell", {"source": "print('hello')\nmade = True"})
    model.script(Reply(tools=[add]), Reply("It is below."))
    asked = notebook.write("%%claude\nPropose a cell.")
    notebook.write("# the last one")
    notebook.run(asked)
    notebook.wait_until_run(asked)

    expect(notebook.cell(asked + 1)).to_contain_text("made = True")
    assert notebook.sources()[asked:] == [
        "%%claude\nPropose a cell.",
        "print('hello')\nmade = True",
        "# the last one",
    ]
    notebook.wait_until_idle()
    expect(notebook.outputs(asked + 1)).to_have_count(0)
    expect(notebook.cell(asked + 1).locator(".jp-InputPrompt")).to_have_text("[ ]:")
    shot(notebook, "proposed")
