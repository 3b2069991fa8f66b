"""A running cell asks its person for permission; where nobody is there, it says what allows it."""

import re
import shlex
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import Kernel

RUN = "mcp__client__run_python"


def calls(tool: str, /, **given: Any) -> Reply:
    """A message of the model's that calls a tool."""
    return Reply(tools=[(tool, given)])


@pytest.fixture
def asking(worker: Kernel) -> Kernel:
    """The worker, which asks with ``input()``."""
    worker.run("%config ClaudeMagics.approvals = 'input'")
    return worker


def run_notebook(env: dict[str, str], folder: Path, *sources: str) -> Any:
    """Execute cells without a person, and return the notebook."""
    new: Any = nbformat.v4
    cells = [new.new_code_cell(source) for source in ("%load_ext jupyter_ccapi", *sources)]
    notebook = new.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60).execute(env=env, cwd=str(folder))
    return notebook


def test_without_a_person_it_is_denied_with_the_option_that_allows_it(
    model: OfflineModel, env: dict[str, str], folder: Path
) -> None:
    """At once; the cell goes on, and so does the notebook. The options that are named do help."""
    target = str(folder / "a.txt")
    denied = (
        calls(RUN, code="x = 1"),
        calls("Bash", command="touch b.txt"),
        calls("Write", file_path=target, content="x"),
    )
    model.script(*denied, Reply("So be it."), Reply("On."))
    notebook = run_notebook(env, folder, "%%claude\nWork.", "%%claude\nGo on.", "'x' in globals()")

    results = [request.tool_results[0] for request in model.main_requests[1:4]]
    assert all(result.error for result in results)
    assert all("Nobody can be asked here" in result.text for result in results)
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "False"
    assert "Denied" in str(notebook.cells[1].outputs)
    assert list(folder.iterdir()) == []

    options = [re.search(r"--tools ('[^']*'|[\w(*)]+)", result.text) for result in results]
    tools = ",".join(shlex.split(found[1])[0] for found in options if found)
    model.clear()
    model.script(*denied, Reply("Done."))
    notebook = run_notebook(env, folder, f"%%claude --tools '{tools}'\nWork.", "x")
    assert not any(request.tool_results[0].error for request in model.main_requests[1:])
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "1"
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt"}


def test_yes_allows_this_once(asking: Kernel, model: OfflineModel) -> None:
    """The question shows the code; the same is asked again."""
    model.script(calls(RUN, code="x = 41 + 1"), calls(RUN, code="x = x + 1"), Reply("Done."))
    cell = asking.start("%%claude\nRun.")
    cell.wait_until(lambda shown: "x = 41 + 1" in shown.text)
    question = cell.type("y")
    assert "run_python" in question
    assert "[a]lways" in question
    cell.wait_until(lambda shown: "Allowed once" in shown.text)
    cell.type("no thanks")
    cell.finish()

    assert cell.answer == "Done."
    assert asking.run("x").value == "42"
    (result,) = model.main_requests[-1].tool_results
    assert result.error
    assert "no thanks" in result.text


def test_always_allows_it_for_the_conversation(
    asking: Kernel, model: OfflineModel, folder: Path
) -> None:
    """What is of the same kind is not asked about again, also by the next cell."""
    model.script(
        calls("Write", file_path=str(folder / "a.txt"), content="a\n"),
        calls("Write", file_path=str(folder / "b.txt"), content="b\n"),
        Reply("Done."),
        calls("Write", file_path=str(folder / "c.txt"), content="c\n"),
        Reply("Done."),
    )
    cell = asking.start("%%claude\nWrite.")
    cell.wait_until(lambda shown: "+a" in shown.text)
    assert not (folder / "a.txt").exists()
    cell.type("a")
    assert cell.finish().status == "ok"
    assert "Allowed for this conversation" in cell.text
    assert asking.run("%%claude\nWrite.").status == "ok"

    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", "c.txt"}


def test_the_stop_button_ends_the_question_and_the_turn(
    asking: Kernel, model: OfflineModel
) -> None:
    """Nothing was run, and the conversation goes on."""
    model.script(calls(RUN, code="x = 'ran'"), Reply("Never."))
    asking.run("x = 'kept'")
    cell = asking.start("%%claude\nRun.")
    cell.wait_until(lambda shown: "x = 'ran'" in shown.text)
    asking.client.get_stdin_msg(timeout=60)
    asking.interrupt()
    cell.finish()

    assert cell.error["ename"] == "TurnStopped"
    assert asking.run("x").value == "'kept'"
    model.clear()
    assert asking.run("%%claude\n[[say Here.]]").answer == "Here."


def test_accepting_edits_is_no_more_than_that(
    worker: Kernel, model: OfflineModel, folder: Path
) -> None:
    """`-p acceptEdits` lets it change files, and run nothing."""
    model.script(
        calls("Write", file_path=str(folder / "a.txt"), content="a\n"),
        calls(RUN, code="x = 1"),
        Reply("So."),
    )
    worker.run("%%claude -p acceptEdits\nWork.")

    write, run = (request.tool_results[0] for request in model.main_requests[1:])
    assert (write.error, run.error) == (False, True)
    assert (folder / "a.txt").exists()
