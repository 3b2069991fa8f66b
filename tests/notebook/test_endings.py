"""When a kernel or the extension goes, its Claude Code processes go with it."""

import threading
from pathlib import Path

import psutil

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import PATIENCE, Kernel, claude_processes


def started(kernel: Kernel, home: Path) -> list[psutil.Process]:
    """Have one turn, and return the processes that are there after it."""
    kernel.run("%config ClaudeMagics.warm = True")
    assert kernel.run("%%claude\n[[say Hi.]]").status == "ok"
    processes = claude_processes(home)
    assert processes
    return processes


def in_the_middle_of_a_turn(
    kernel: Kernel, model: OfflineModel, home: Path
) -> list[psutil.Process]:
    """Start a turn that does not end, and return the processes that serve it."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    kernel.start("%%claude\nTell me a story.").wait_until(lambda shown: shown.answer)
    processes = claude_processes(home)
    assert processes
    return processes


def all_gone(processes: list[psutil.Process]) -> bool:
    """Wait for processes to end, and say whether they did."""
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


def test_shutting_a_kernel_down_ends_its_processes(own_kernel: Kernel, tmp_path: Path) -> None:
    """Politely, and before the kernel itself is gone."""
    processes = started(own_kernel, tmp_path)
    own_kernel.shut_down()
    assert all_gone(processes)


def test_shutting_a_kernel_down_in_a_turn_ends_its_processes(
    own_kernel: Kernel, model: OfflineModel, tmp_path: Path
) -> None:
    """And the model is read no more."""
    processes = in_the_middle_of_a_turn(own_kernel, model, tmp_path)
    own_kernel.shut_down()
    assert all_gone(processes)
    model.wait_for(lambda request: request.closed_early)


def test_a_killed_kernel_leaves_no_process(
    own_kernel: Kernel, model: OfflineModel, tmp_path: Path
) -> None:
    """Nothing of the kernel's can act any more; the core's guard does."""
    processes = in_the_middle_of_a_turn(own_kernel, model, tmp_path)
    own_kernel.kill()
    assert all_gone(processes)
    model.wait_for(lambda request: request.closed_early)


def test_restarting_a_kernel_ends_its_processes(own_kernel: Kernel, tmp_path: Path) -> None:
    """The new kernel begins with nothing."""
    processes = started(own_kernel, tmp_path)
    own_kernel.manager.restart_kernel()
    own_kernel.client.wait_for_ready(timeout=PATIENCE)
    assert all_gone(processes)


def test_unloading_ends_the_processes_and_takes_the_magic_away(kernel: Kernel, home: Path) -> None:
    """After it the cell is unknown, and nothing of ours runs."""
    processes = started(kernel, home)
    assert kernel.run("%unload_ext jupyter_ccapi").status == "ok"

    assert all_gone(processes)
    assert "not found" in kernel.run("%%claude\nHi").stderr
    left = kernel.run(
        "import threading\n"
        "shell = get_ipython()\n"
        "print(shell.input_transformers_post,\n"
        "      [t.name for t in threading.enumerate() if t.name == 'claude-core'],\n"
        "      [c for c in shell.configurables if type(c).__name__ == 'ClaudeMagics'])"
    )
    assert left.stdout == "[] [] []\n"


def test_a_new_conversation_ends_the_process_of_the_old_one(kernel: Kernel, home: Path) -> None:
    """Otherwise each `--new` would cost its memory for ten minutes."""
    before = started(kernel, home)
    kernel.run("%%claude --new\n[[say Hi.]]")

    assert all_gone(before)
    assert len(claude_processes(home)) == 1


def test_loading_alone_starts_nothing(kernel: Kernel, home: Path) -> None:
    """Neither a process nor a thread."""
    shown = kernel.run("import threading; print([t.name for t in threading.enumerate()])")

    assert "claude-core" not in shown.stdout
    assert claude_processes(home) == []
