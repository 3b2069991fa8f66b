"""A chat in the output of a cell: a prompt is typed, a tool asks, the answer streams in."""

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.browser.page import NotebookPage

pytestmark = pytest.mark.browser


def test_a_chat_has_tools_approvals_and_a_stop_button(
    notebook: NotebookPage, model: OfflineModel, shot: Callable[[NotebookPage, str], None]
) -> None:
    """All of it within the chat; the keyboard alone will do."""
    shown = notebook.asked("from jupyter_ccapi import Claude\nclaude = Claude()\nclaude.chat()")
    chat = notebook.outputs(shown).first
    entry = chat.get_by_placeholder("Ask Claude… (Enter sends)")
    gate = threading.Event()
    model.script(
        Reply("I **make** it.", tools=[("Bash", {"command": "touch made.txt"})]),
        Reply("There `is` one now.", hold=gate),
    )
    entry.click()
    notebook.page.keyboard.type("Make a file, please.")
    notebook.page.keyboard.press("Enter")
    expect(entry).to_have_value("")
    expect(chat.locator("strong").filter(has_text="make")).to_be_visible()
    card = chat.locator(".ccapi-approval")
    expect(card).to_contain_text("touch made.txt")
    shot(notebook, "approval")
    notebook.tab_to("Allow once")
    notebook.page.keyboard.press("Enter")
    expect(chat.get_by_text("Allowed once:")).to_be_visible()
    expect(card).to_have_count(0)
    expect(chat.get_by_text("There", exact=True)).to_be_visible()
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    shot(notebook, "speaking")
    gate.set()
    expect(chat.locator("code").filter(has_text="is")).to_be_visible()
    expect(chat.get_by_text("1 turn")).to_be_visible()
    assert (notebook.folder / "made.txt").exists()
    shot(notebook, "answered")

    model.script(Reply("Once upon a time", hold=threading.Event()))
    entry.fill("Tell me a story.")
    chat.get_by_role("button", name="Send").click()
    expect(chat.get_by_text("Once", exact=True)).to_be_visible()
    chat.get_by_role("button", name="Stop").click()
    expect(chat.get_by_text("Stopped · claude-")).to_be_visible()
    expect(chat.get_by_role("button", name="Send")).to_be_enabled()
    model.wait_for(lambda request: request.closed_early)
    shot(notebook, "stopped")

    # Cells go on with the same conversation.
    model.script(Reply("I am."))
    notebook.asked("answer = await claude.query('Are you there?')")
    assert "Tell me a story." in str(model.main_requests[-1].messages)
