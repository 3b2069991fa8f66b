"""What goes wrong is told in one sentence, and the cell ends in error."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.notebook.kernels import Kernel, claude_processes


def test_a_failed_turn_is_one_sentence_without_a_traceback(
    kernel: Kernel, model: OfflineModel
) -> None:
    """Nothing else is left of the cell, not even the line that waited."""
    model.script(Reply(error=ApiError(529, "", "The model is overloaded.")))
    cell = kernel.run("%%claude --mode chat\nHello.")

    assert cell.status == "error"
    assert cell.error["ename"] == "CellError"
    (sentence,) = cell.error["traceback"]
    assert "overloaded" in sentence
    assert "\n" not in sentence
    assert cell.lines == []
    assert cell.stderr == ""


def test_what_had_come_before_a_failure_stays(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """Here Claude Code is killed in the middle of an answer; the next cell goes on."""
    model.script(Reply("Hello Ann."), Reply("Once upon a time", hold=threading.Event()))
    kernel.run("%%claude\nI am Ann.")
    cell = kernel.start("%%claude\nTell me a story.")
    cell.wait_until(lambda shown: shown.answer == "Once ")
    (process,) = claude_processes(home)
    os.kill(process.pid, signal.SIGKILL)
    cell.finish()

    assert cell.answer == "Once "
    (sentence,) = cell.error["traceback"]
    assert sentence.startswith("Claude Code ended in the middle of the turn")

    model.script(Reply("You are Ann."))
    assert kernel.run("%%claude\nWho am I?").answer == "You are Ann."
    assert "Hello Ann." in str(model.main_requests[-1].messages)


def test_run_all_stops_at_a_failed_turn(
    model: OfflineModel, env: dict[str, str], home: Path
) -> None:
    """As `jupyter execute` does; the saved error is the sentence."""
    model.script(Reply(error=ApiError(500, "", "The model broke.")))
    sources = ["%load_ext jupyter_ccapi", "%%claude --mode chat\nHello.", "print('never')"]
    code: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
    }
    cells = [{**code, "source": source} for source in sources]
    notebook = nbformat.from_dict(  # type: ignore[no-untyped-call]
        {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}
    )

    with pytest.raises(CellExecutionError, match="The model broke"):
        NotebookClient(notebook, timeout=60).execute(env=env, cwd=str(home))

    (error,) = notebook.cells[1].outputs
    assert error.output_type == "error"
    assert len(error.traceback) == 1
    assert "The model broke" in error.traceback[0]
    assert notebook.cells[2].outputs == []


def test_a_login_that_is_refused_says_what_to_do(kernel: Kernel, model: OfflineModel) -> None:
    """The sentence names the command that logs in."""
    model.script(Reply(error=ApiError(401, "", "invalid x-api-key")))
    (sentence,) = kernel.run("%%claude --mode chat\nHello.").error["traceback"]

    assert "Run `claude` in a terminal and log in" in sentence


def test_a_cli_that_is_not_there_names_the_option_of_the_kernel(kernel: Kernel) -> None:
    """In a kernel it is `ClaudeMagics.cli_path`, not the server's."""
    kernel.run("%config ClaudeMagics.cli_path = '/no/such/claude'")
    (sentence,) = kernel.run("%%claude\nHello.").error["traceback"]

    assert "'/no/such/claude' is not an executable file" in sentence
    assert "ClaudeMagics.cli_path" in sentence
    assert "CCApiApp" not in sentence


def test_a_turn_that_takes_too_long_names_the_option_of_the_kernel(
    kernel: Kernel, model: OfflineModel
) -> None:
    """What had come until then stays, and the option helps at once."""
    kernel.run("%config ClaudeMagics.turn_timeout = 1.0")
    model.script(Reply("Once upon a time", hold=threading.Event()))
    cell = kernel.run("%%claude\nTell me a story.")

    assert "ClaudeMagics.turn_timeout" in cell.error["traceback"][0]
    assert cell.answer == "Once "
    kernel.run("%config ClaudeMagics.turn_timeout = 60.0")
    assert kernel.run("%%claude\n[[words 20]] [[delay 0.1]]").answer.endswith("word20")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("%%claude --modle opus\nHi", "no option --modle: did you mean --model?"),
        ("%%claude --newer\nHi", "no option --newer: did you mean --new?"),
        ("%%claude -x\nHi", "no option -x."),
        ("%%claude Hi there\nHi", "the prompt goes below the %%claude line"),
        ("%%claude -m\nHi", "-m/--model needs a value, NAME"),
        ("%%claude", "the cell body is empty"),
        ("%%claude\n  \n", "needs a prompt"),
        ("%claude", "it needs a prompt"),
        ("%%claude -m gpt-4o\nHi", "no model 'gpt-4o'. Known are opus, sonnet, haiku"),
    ],
)
def test_bad_input_is_a_usage_error(
    kernel: Kernel, model: OfflineModel, code: str, sentence: str
) -> None:
    """It says what to write instead, ends the cell in error, and costs nothing."""
    cell = kernel.run(code)

    assert cell.status == "error"
    assert cell.reply["ename"] == "UsageError"
    assert cell.stderr.startswith("UsageError: ")
    assert sentence in cell.stderr
    assert len(cell.stderr.splitlines()) == 1
    assert model.main_requests == []


def test_a_name_that_only_the_cli_knows_is_a_model(kernel: Kernel, model: OfflineModel) -> None:
    """The CLI reports more than the aliases; it is asked before a name is refused."""
    reported = kernel.run("%%claude -m default\n[[say Hi.]]")

    assert reported.answer == "Hi."
