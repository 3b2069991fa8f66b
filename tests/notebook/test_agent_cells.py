"""What agents do in cells: Claude Code's tools, the kernel's own, and which of them there are."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import PATIENCE, Kernel

RUN = "mcp__client__run_python"
RUNS = "--tools 'run_python(*)'"

# A server of the Model Context Protocol on stdio, with one tool.
SERVER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    match asked["method"]:
        case "initialize":
            told = {"protocolVersion": asked["params"]["protocolVersion"],
                    "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
        case "tools/list":
            told = {"tools": [{"name": "greet", "description": "Greet.",
                               "inputSchema": {"type": "object", "properties": {}}}]}
        case "tools/call":
            told = {"content": [{"type": "text", "text": "Hello from the server."}]}
        case _:
            told = {}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": told}), flush=True)
"""


def calls(tool: str, /, **given: Any) -> Reply:
    """A message of the model's that calls a tool."""
    return Reply(tools=[(tool, given)])


def test_an_agent_works_in_the_kernels_folder(
    worker: Kernel, model: OfflineModel, folder: Path
) -> None:
    """It reads and writes there; the cell shows each call, and the edit as a diff."""
    (folder / "data.txt").write_text("one\n")
    model.script(
        calls("Read", file_path=str(folder / "data.txt")),
        calls("Write", file_path=str(folder / "made.txt"), content="two\n"),
        Reply("Done."),
    )
    cell = worker.run("%%claude -p acceptEdits\nCopy it.")

    assert "one" in model.main_requests[1].tool_results[0].text
    assert (folder / "made.txt").read_text() == "two\n"
    assert cell.answer == "Done."
    assert any(line.startswith("● Read  data.txt  ok") for line in cell.lines)
    (edit,) = [line for line in cell.lines if line.startswith("● Write  made.txt")]
    assert "+two" in edit
    assert "checkpoint 1" in cell.lines[-1]


def test_a_chat_has_no_tools(worker: Kernel, model: OfflineModel) -> None:
    """Neither Claude Code's nor the kernel's."""
    worker.run("%%claude --mode chat\nHello.")
    assert model.main_requests[0].tools == []


def test_tools_names_what_there_is(worker: Kernel, model: OfflineModel) -> None:
    """Those and no others, from then on; `--no-tools` stands for none."""
    worker.run("%%claude\nHello.")
    worker.run("%%claude --tools Read,list_variables\nHello.")
    worker.run("%%claude\nHello.")
    worker.run("%%claude --no-tools\nHello.")

    # One stands in for tools that are found by a search.
    offered = [set(request.tools) - {"DeferredToolPlaceholder"} for request in model.main_requests]
    every, some, kept, none = offered
    assert {"Read", "Write", "Bash", "mcp__client__list_variables", RUN} <= every
    assert some == kept == {"Read", "mcp__client__list_variables"}
    assert none == set()


def test_a_rule_allows_without_asking(worker: Kernel, model: OfflineModel, folder: Path) -> None:
    """`Bash(touch *)` names Bash, and allows that; nobody is there who could be asked more."""
    model.script(
        calls("Bash", command="touch made.txt"),
        calls("Bash", command="mkdir made"),
        Reply("So."),
    )
    worker.run("%%claude --tools 'Bash(touch *),Read'\nTouch.")

    first, second = (request.tool_results[0] for request in model.main_requests[1:])
    assert (first.error, second.error) == (False, True)
    assert [path.name for path in folder.iterdir()] == ["made.txt"]


def test_mcp_adds_servers_of_a_file(worker: Kernel, model: OfflineModel, folder: Path) -> None:
    """They stay for the next cells of the conversation."""
    (folder / "server.py").write_text(SERVER)
    server = {"command": sys.executable, "args": [str(folder / "server.py")]}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"hall": server}}))
    model.script(Reply("Hello."), calls("mcp__hall__greet"), Reply("Done."))
    worker.run("%%claude --mcp mcp.json --tools 'mcp__hall__greet(*)'\nHello.")
    cell = worker.run("%%claude\nGreet.")

    assert cell.status == "ok"
    assert "Hello from the server." in model.main_requests[-1].tool_results[0].text


def test_looking_at_the_kernel_needs_no_permission(
    worker: Kernel, model: OfflineModel, home: Path
) -> None:
    """`list_variables`, `inspect_variable` and `read_notebook`; nobody could be asked here."""
    worker.run("prices = [1.5, 2.5]\nlabel = 'x'")
    model.script(
        calls("mcp__client__list_variables"),
        calls("mcp__client__inspect_variable", name="prices"),
        calls("mcp__client__read_notebook"),
        Reply("I see."),
    )
    cell = worker.run("%%claude\nLook.")

    listed, inspected, read = (request.tool_results[0] for request in model.main_requests[1:])
    assert not any(result.error for result in (listed, inspected, read))
    assert "prices: [1.5, 2.5]" in listed.text
    assert "label: 'x'" in listed.text
    assert "list" in inspected.text
    assert "prices = [1.5, 2.5]" in read.text
    assert any(line.startswith("● list_variables") for line in cell.lines)


def test_code_of_the_model_sets_the_users_variables(worker: Kernel, model: OfflineModel) -> None:
    """What it prints and its value go to the model, and not to the cell."""
    worker.run("x = 20")
    model.script(calls(RUN, code="y = x + 1\nprint('to the model')\ny * 2"), Reply("Done."))
    cell = worker.run(f"%%claude {RUNS}\nRun.")

    (result,) = model.main_requests[-1].tool_results
    assert "to the model" in result.text
    assert "42" in result.text
    assert (cell.stdout, cell.value) == ("", "")
    assert worker.run("y").value == "21"


def test_a_picture_that_code_draws_goes_to_the_model(worker: Kernel, model: OfflineModel) -> None:
    """As an image; the cell shows no figure of its own."""
    pytest.importorskip("PIL")
    model.script(
        calls(RUN, code="from PIL import Image\nImage.new('RGB', (2, 2), 'red')"), Reply("Red.")
    )
    cell = worker.run(f"%%claude {RUNS}\nDraw.")

    assert model.main_requests[-1].images == 1
    assert not any("image/png" in bundle for bundle in cell.displays.values())


def test_code_that_fails_is_told_to_the_model(worker: Kernel, model: OfflineModel) -> None:
    """The cell goes on: it is the model's mistake."""
    model.script(calls(RUN, code="1/0"), Reply("Oh."))
    cell = worker.run(f"%%claude {RUNS}\nRun.")

    (result,) = model.main_requests[-1].tool_results
    assert result.error
    assert "ZeroDivisionError" in result.text
    assert (cell.status, cell.answer, cell.stderr) == ("ok", "Oh.", "")


def test_code_runs_in_the_main_thread_with_await(worker: Kernel, model: OfflineModel) -> None:
    """On the kernel's own loop: what the user made there works."""
    worker.run("import asyncio, threading\nlater = asyncio.get_running_loop().create_future()")
    code = "later.get_loop().call_soon(later.set_result, 7)\nn = await later\n"
    model.script(calls(RUN, code=f"{code}threading.current_thread().name, n"), Reply("Done."))
    worker.run(f"%%claude {RUNS}\nRun.")

    assert "('MainThread', 7)" in model.main_requests[-1].tool_results[0].text


def test_the_stop_button_ends_a_busy_loop_and_the_turn(
    worker: Kernel, model: OfflineModel, folder: Path
) -> None:
    """The kernel lives, the model is asked nothing more, and the conversation goes on."""
    code = "n = 0\nopen('computes', 'w').close()\nwhile True: n += 1"
    model.script(calls(RUN, code=code), Reply("Never."))
    cell = worker.start(f"%%claude {RUNS}\nRun.")
    deadline = time.monotonic() + PATIENCE
    while not (folder / "computes").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.interrupt()
    cell.finish()

    assert cell.error["ename"] == "TurnStopped"
    assert worker.run("n > 0").value == "True"
    assert len(model.main_requests) == 1
    model.clear()
    assert worker.run("%%claude\n[[say Here.]]").answer == "Here."


def test_a_proposed_cell_comes_below_and_is_not_run(worker: Kernel, model: OfflineModel) -> None:
    """As the payload by which frontends add a cell."""
    model.script(calls("mcp__client__add_cell", source="proposed = 1"), Reply("There."))
    cell = worker.run("%%claude\nPropose.")

    (payload,) = cell.reply["payload"]
    assert payload["source"] == "set_next_input"
    assert payload["text"] == "proposed = 1"
    assert not payload["replace"]
    assert worker.run("'proposed' in globals()").value == "False"


def test_a_plan_is_made_and_nothing_is_changed(
    worker: Kernel, model: OfflineModel, folder: Path
) -> None:
    """`-p plan`: an edit is refused."""
    model.script(calls("Write", file_path=str(folder / "no.txt"), content="x"), Reply("A plan."))
    worker.run("%%claude -p plan\nPlan.")

    assert model.main_requests[-1].tool_results[0].error
    assert list(folder.iterdir()) == []
