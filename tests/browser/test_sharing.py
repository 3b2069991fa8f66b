"""A page of the notebook's server joins the conversation of a notebook, with the browser's own
login; a page from elsewhere does not.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.browser.lab import Lab
from tests.browser.page import NotebookPage

pytestmark = pytest.mark.browser

JOIN = """url => new Promise(done => {
  window.events = [];
  window.socket = new WebSocket(url);
  socket.onmessage = message => events.push(JSON.parse(message.data));
  socket.onopen = () => done("open");
  socket.onclose = event => done("closed");
})"""
WAIT = "type => events.find(event => event.type === type)"


def until(page: Page, type: str) -> dict[str, Any]:
    """The first event of a type, once it has come."""
    found: dict[str, Any] = page.wait_for_function(WAIT, arg=type).json_value()
    return found


def test_a_page_approves_what_a_cell_asks(
    notebook: NotebookPage,
    model: OfflineModel,
    lab: Lab,
    shot: Callable[[NotebookPage, str], None],
    new_page: Callable[[], Page],
) -> None:
    """As somebody does with a phone; the card in the notebook says that it is settled."""
    asked = notebook.asked("%%claude --share\n[[say Hello.]]")
    (told,) = [text for text in notebook.texts(asked) if "Shared as session" in text]
    (session,) = re.findall(r"session_\w+", told)[:1]
    page, url = notebook.page, f"{lab.url.replace('http', 'ws')}/ws/session/{session}"
    listed = page.evaluate("url => fetch(url).then(it => it.json())", f"{lab.url}/v1/sessions")
    assert session in [one["session_id"] for one in listed["sessions"]]
    assert page.evaluate(JOIN, url) == "open"
    assert until(page, "user_message")["content"] == "[[say Hello.]]"

    model.script(Reply(tools=[("Bash", {"command": "touch far.txt"})]), Reply("Done."))
    asked = notebook.ask("%%claude\nMake far.txt.")
    expect(notebook.approval(asked)).to_contain_text("touch far.txt")
    shot(notebook, "asks")
    request = until(page, "permission_request")
    answer = {"type": "permission_response", "request_id": request["request_id"]}
    page.evaluate("it => socket.send(JSON.stringify(it))", {**answer, "behavior": "allow"})
    notebook.wait_until_run(asked)
    assert (notebook.folder / "far.txt").exists()
    expect(notebook.approval(asked)).to_have_count(0)
    assert "Allowed once: Bash touch far.txt" in notebook.texts(asked)
    assert until(page, "permission_resolved")["by"] == until(page, "session_init")["client_id"]
    shot(notebook, "allowed")
    page.evaluate("socket.close()")

    # Neither with that cookie, nor without: another origin's page is not let in.
    elsewhere = page.context.new_page()
    elsewhere.goto("about:blank")
    assert elsewhere.evaluate(JOIN, url) == "closed"
    elsewhere.close()
    stranger = new_page()
    stranger.goto(f"{lab.url}/login")
    assert stranger.evaluate(JOIN, url) == "closed"
