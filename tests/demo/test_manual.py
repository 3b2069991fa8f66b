"""What the offline model knows of the manual: its scripts, read without a CLI."""

import json
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import manual
from jupyter_ccapi.demo.answers import answer
from tests.demo.http_client import asked

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
KEEP = "Keep a copy of coffee.csv as coffee.orig.csv."
BASH = {"name": "Bash", "input_schema": {"type": "object"}}


def later(content: str, *, error: bool) -> dict[str, Any]:
    """Return the request that brings what Bash answered."""
    body = asked(KEEP, tools=[BASH])
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
    body["messages"] += [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{**result, "is_error": error}]},
    ]
    return body


def test_every_prompt_that_is_known_is_in_the_manual() -> None:
    """So that a change of the manual is not forgotten here."""
    cells = [
        "".join(cell["source"])
        for path in NOTEBOOKS.glob("*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    missing = [text for text in manual.SCRIPTS if not any(text in cell for cell in cells)]
    assert not missing


@pytest.mark.parametrize("before", ["", "Variables:\n<variable>\nx: int\n</variable>\n"])
def test_a_prompt_of_the_manual_is_played(before: str) -> None:
    """Also behind what a cell tells of variables; at its end it is said that it was played."""
    ((name, given),) = answer(asked(before + KEEP, tools=[BASH])).tools
    assert (name, given["command"]) == ("Bash", "cp coffee.csv coffee.orig.csv")

    end = answer(later("", error=False))
    assert end.text == f"`coffee.orig.csv` is the copy.\n\n{manual.BY_HEART}"
    assert not end.tools


def test_nothing_is_claimed_that_was_not_done() -> None:
    said = answer(later("Denied by the user.", error=True)).text
    assert said == f"`Bash` failed:\n\n> Denied by the user.\n\n{manual.BY_HEART}"


@pytest.mark.parametrize("tools", [[], [{"name": "Read", "input_schema": {"type": "object"}}]])
def test_without_its_tool_a_prompt_gets_the_usual_answer(tools: list[dict[str, Any]]) -> None:
    reply = answer(asked(KEEP, tools=tools))
    assert not reply.tools
    assert "offline demo model" in reply.text
    assert KEEP in reply.text


def test_a_tool_that_has_to_be_searched_for_is_called() -> None:
    """Claude Code shows the tools of other servers only then."""
    prompt = "How many cups will we sell at 30 degrees? Ask the forecast."
    assert not answer(asked(prompt, tools=[BASH])).tools
    tools = [BASH, {"name": "ToolSearch", "input_schema": {"type": "object"}}]
    assert answer(asked(prompt, tools=tools)).tools == (("mcp__cafe__forecast", {"degrees": 30}),)
