"""Conversations by name: side by side, begun anew, branched off, and taken up after a restart."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import PATIENCE, Kernel, roles_and_texts

CHAT = "%%claude --mode chat"


def said(model: OfflineModel) -> list[str]:
    """All texts that the model was sent last."""
    return [text for _, text in roles_and_texts(model.main_requests[-1].messages)]


def restart(kernel: Kernel) -> None:
    """Restart a kernel as a user does, and load the extension."""
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=PATIENCE)
    assert kernel.run("%load_ext jupyter_ccapi").status == "ok"


def open_notebook(kernel: Kernel, home: Path, name: str) -> None:
    """Have a kernel be a notebook's, as the server says it to a kernel that it starts."""
    path = home / name
    path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    kernel.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(path)!r}")


@pytest.fixture(autouse=True)
def no_notebook(running_kernel: Kernel) -> Iterator[None]:
    """After a test the kernel is no notebook's again."""
    yield
    running_kernel.run("import os; _ = os.environ.pop('JPY_SESSION_NAME', None)")


def test_several_live_side_by_side(kernel: Kernel, model: OfflineModel) -> None:
    """None knows what was said in the other, nor has its settings."""
    kernel.run(f"{CHAT} -m haiku\nI am Ann.")
    kernel.run(f"{CHAT} -c other\nI am Bob.")
    kernel.run("%%claude\nWho?")
    assert "I am Ann." in said(model)
    assert "I am Bob." not in said(model)
    assert "haiku" in model.main_requests[-1].body["model"]

    kernel.run("%%claude -c other\nWho?")
    assert "I am Bob." in said(model)
    assert "I am Ann." not in said(model)
    assert "haiku" not in model.main_requests[-1].body["model"]


def test_what_a_conversation_keeps(kernel: Kernel, model: OfflineModel) -> None:
    """Mode, model and system prompt, until they are given again; and not what is for a cell."""
    kernel.run(f"{CHAT} -m haiku -s 'Talk like a pirate.' --effort low -q -o first\nHello.")
    cell = kernel.run("%%claude\nHello.")
    kernel.run("%%claude -s 'Talk like an emperor.'\nHello.")
    kernel.run("%%claude --new\nHello.")

    first, second, third, anew = model.main_requests
    assert "pirate" in first.system_text
    assert "pirate" in second.system_text
    assert "haiku" in second.body["model"]
    assert second.tools == []
    assert second.body.get("output_config") != first.body.get("output_config")
    assert cell.answer
    assert "emperor" in third.system_text
    assert "pirate" not in third.system_text
    assert "Hello." in said(model)
    assert "emperor" not in anew.system_text
    assert "haiku" not in anew.body["model"]
    assert "Bash" in anew.tools


def test_an_agent_keeps_permission_and_system_prompt(
    worker: Kernel, model: OfflineModel, folder: Path
) -> None:
    """The system prompt is added to Claude Code's own; the second cell may still write."""
    target = folder / "a.txt"
    model.script(
        Reply("Hello."),
        Reply(tools=[("Write", {"file_path": str(target), "content": "x"})]),
        Reply("Done."),
    )
    worker.run("%%claude -p acceptEdits -s 'Talk like a pirate.'\nHello.")
    worker.run("%%claude\nWrite.")

    assert target.read_text() == "x"
    system = model.main_requests[-1].system_text
    assert "pirate" in system
    assert len(system) > 1000


def test_a_fork_goes_on_from_an_earlier_prompt(kernel: Kernel, model: OfflineModel) -> None:
    """As it was just before that prompt; without a number, as it is now. The other one stays."""
    for words in ("One.", "Two.", "Three."):
        kernel.run(f"{CHAT}\n[[say Said {words}]]")
    id = kernel.run("from jupyter_ccapi import Claude\nClaude('default').id").value.strip("'")
    kernel.run("%%claude --fork 3\nFour.")
    assert said(model)[1::2] == ["Said One.", "Said Two."]
    assert said(model)[-1] == "Four."

    kernel.run("%%claude --fork\nFive.")
    assert "Four." in said(model)
    kernel.run(f"%%claude --resume {id[:8]}\nSix.")
    assert "Said Three." in " ".join(said(model))
    assert "Four." not in said(model)


def test_a_conversation_that_was_left_is_taken_up_by_its_id(
    kernel: Kernel, model: OfflineModel
) -> None:
    """With its settings; by its name, too."""
    kernel.run(f"{CHAT} -c notes -m haiku\nI am Eve.")
    kernel.run("%%claude -c notes --new\nI am Bob.")
    listed = kernel.run("%claude_conversations").text
    (line,) = [line for line in listed.splitlines() if "I am Eve." in line]
    kernel.run(f"%%claude --resume {line.split()[0]}\nWho?")

    assert said(model)[0] == "I am Eve."
    assert "haiku" in model.main_requests[-1].body["model"]
    # And again: it is open here already.
    assert kernel.run(f"%%claude --resume {line.split()[0]}\nWho?").status == "ok"
    assert said(model)[0] == "I am Eve."


def test_a_restarted_kernel_takes_up_its_own_notebooks_last_conversation(
    kernel: Kernel, worker: Kernel, model: OfflineModel, home: Path
) -> None:
    """Of two notebooks each has its own; model and mode are kept, and so is a name's own."""
    open_notebook(kernel, home, "first.ipynb")
    open_notebook(worker, home, "second.ipynb")
    kernel.run(f"{CHAT} -m haiku\nI am Ann.")
    worker.run(f"{CHAT}\nI am Bob.")
    worker.run(f"{CHAT} -c aside\nI am Cid.")
    worker.run(f"{CHAT}\nI am Bob again.")
    restart(kernel)
    restart(worker)
    open_notebook(kernel, home, "first.ipynb")
    open_notebook(worker, home, "second.ipynb")

    assert kernel.run("%%claude --resume\nWho?").status == "ok"
    assert said(model)[0] == "I am Ann."
    assert "haiku" in model.main_requests[-1].body["model"]
    assert model.main_requests[-1].tools == []
    worker.run("%%claude --resume\nWho?")
    assert said(model)[0] == "I am Bob."
    listed = worker.run("%claude_conversations").text.splitlines()
    assert "this kernel" in listed[1]
    assert "this notebook" in listed[2]
    assert any("first.ipynb" in line and "I am Ann." in line for line in listed[3:])

    worker.run("%%claude -c aside --resume\nWho?")
    assert said(model)[0] == "I am Cid."
    cell = worker.run("%%claude -c none --resume\nWho?")
    assert "No conversation 'none' of this notebook is kept yet." in cell.stderr


def test_nothing_to_take_up_is_a_sentence(kernel: Kernel, model: OfflineModel, home: Path) -> None:
    """In a new notebook."""
    open_notebook(kernel, home, "new.ipynb")
    cell = kernel.run("%%claude --resume\nWho?")

    assert cell.reply["ename"] == "UsageError"
    assert "No conversation of this notebook is kept yet." in cell.stderr
    assert model.main_requests == []


def test_after_a_kernel_was_killed_in_a_turn_its_conversation_goes_on(
    kernel: Kernel, model: OfflineModel, home: Path
) -> None:
    """With what was said before; the prompt that was being answered is a checkpoint, too."""
    open_notebook(kernel, home, "killed.ipynb")
    model.script(Reply("Hello Ann."), Reply("Once upon a time", hold=threading.Event()))
    kernel.run(f"{CHAT}\nI am Ann.")
    kernel.start("%%claude\nTell me a story.").wait_until(lambda shown: shown.answer)
    kernel.kill()
    model.wait_for(lambda request: request.closed_early)
    model.release()
    restart(kernel)
    open_notebook(kernel, home, "killed.ipynb")

    assert kernel.run("%%claude --resume\n[[say You are Ann.]]").answer == "You are Ann."
    assert said(model)[:2] == ["I am Ann.", "Hello Ann."]
    listed = kernel.run("%claude_checkpoints").text
    assert "I am Ann." in listed
    assert "You are Ann." in listed


def test_two_kernels_cannot_have_one_conversation(
    kernel: Kernel, worker: Kernel, model: OfflineModel, home: Path
) -> None:
    """The second is told who has it; the first goes on, and may leave it to the other one."""
    open_notebook(kernel, home, "shared.ipynb")
    open_notebook(worker, home, "shared.ipynb")
    kernel.run(f"{CHAT}\nI am Ann.")
    cell = worker.run("%%claude --resume\nWho?")

    assert "has this conversation open" in cell.failure
    assert kernel.run("%%claude\n[[say Here.]]").answer == "Here."
    kernel.run("%unload_ext jupyter_ccapi")
    assert worker.run("%%claude --resume\n[[say Now.]]").answer == "Now."
    assert said(model)[0] == "I am Ann."


def test_reloading_the_extension_loses_no_conversation(kernel: Kernel, model: OfflineModel) -> None:
    """An object goes on with its own; cells take theirs up."""
    kernel.run(
        "from jupyter_ccapi import Claude\nclaude = Claude(mode='chat', model='haiku')\n"
        "_ = await claude.query('I am Ann.')"
    )
    kernel.run(f"{CHAT}\nI am Bob.")
    assert kernel.run("%reload_ext jupyter_ccapi").status == "ok"
    # No notebook is known here: the last one that was had in this folder.
    assert kernel.run("%%claude --resume\nWho?").status == "ok"
    assert said(model)[0] == "I am Bob."
    assert kernel.run("_ = await claude.query('Who?')").status == "ok"
    assert said(model)[0] == "I am Ann."
    assert "haiku" in model.main_requests[-1].body["model"]

    kernel.run("%%claude -c back --resume default\nWho?")
    assert said(model)[0] == "I am Bob."
