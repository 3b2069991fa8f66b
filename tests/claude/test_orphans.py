"""Whatever becomes of a program that uses the core: nothing that it started outlives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.support import FOREVER, PATIENCE, clis, held, named


@contextmanager
def programs(
    model: OfflineModel, home: Path, *endings: str, mode: str = "chat"
) -> Iterator[list["subprocess.Popen[str]"]]:
    """Programs that come to these ends, each in a process group of its own, once all are ready;
    see `a_program.py`.
    """
    started: list[subprocess.Popen[str]] = []
    variables = {**os.environ, **model.environment(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        for ending in endings:
            words = ["-m", "tests.claude.a_program", ending, mode, str(home / "project")]
            program = subprocess.Popen(
                [sys.executable, *words],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            started.append(program)
        for program in started:
            assert line_of(program) == "ready"
        yield started
    finally:
        for program in started:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.communicate()


def line_of(program: "subprocess.Popen[str]") -> str:
    """The next line that a program prints."""
    assert program.stdout is not None
    return program.stdout.readline().rstrip("\n")


def family(program: "subprocess.Popen[str]") -> list[psutil.Process]:
    """All that a program has started: the reaper, the CLI, the commands of its tools."""
    return psutil.Process(program.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    """Wait until all of them have ended."""
    return not psutil.wait_procs(processes, PATIENCE)[1]


def test_when_it_is_killed(model: OfflineModel, home: Path) -> None:
    model.script(held(), held())
    with programs(model, home, "waits", "forks") as started:
        for program, number in zip(started, (signal.SIGTERM, signal.SIGKILL), strict=True):
            # Not the fork, which is no part of us and holds what was open.
            processes = [p for p in family(program) if os.getpgid(p.pid) != program.pid]
            assert len(processes) == 2
            program.send_signal(number)
            assert program.wait(PATIENCE) == -number
            assert all_gone(processes)
    # The model is not read to the end at its owner's cost.
    model.wait_for(lambda _: all(r.closed_early for r in model.main_requests), PATIENCE)


def test_when_it_ends_without_closing(model: OfflineModel, home: Path) -> None:
    endings = ("raises", "returns", "exits")
    model.script(*(held() for _ in endings))
    with programs(model, home, *endings) as started:
        for ending, program in zip(endings, started, strict=True):
            program.wait(PATIENCE)
            assert program.stderr is not None
            complaints = program.stderr.read()
            # At most its own traceback: no task, process or pipe is complained about.
            assert complaints.count("Traceback") == (ending == "raises")
            for complaint in ("Task", "Warning", "Exception ignored", "unclosed"):
                assert complaint not in complaints
        assert all_gone(clis(home))


@pytest.mark.parametrize("cli_first", [False, True])
def test_a_command_of_an_agent(model: OfflineModel, home: Path, cli_first: bool) -> None:
    # The Bash tool gives each command a session of its own, where no signal to a group finds it.
    model.script(Reply(tools=[("Bash", {"command": FOREVER})]))
    with programs(model, home, "waits", mode="agent") as (program,):
        while not named(home, "perl"):
            assert program.poll() is None
        processes = family(program)
        sessions = {os.getsid(process.pid) for process in clis(home)}
        assert len(sessions) == 2
        if cli_first:
            # The program has no time left to see to it.
            program.send_signal(signal.SIGSTOP)
            (cli,) = [p for p in psutil.Process(program.pid).children() if p in clis(home)]
            cli.kill()
        program.kill()
        program.wait(PATIENCE)
        assert all_gone(processes)


def test_a_signal_to_its_process_group_does_not_reach_the_cli(
    model: OfflineModel, home: Path
) -> None:
    # As a kernel's stop button does it, and Ctrl-C in a terminal.
    model.script(held("one two three"))
    with programs(model, home, "hears SIGINT") as (program,):
        processes = family(program)
        assert all(os.getpgid(process.pid) != program.pid for process in processes)
        os.killpg(program.pid, signal.SIGINT)
        assert line_of(program) == "SIGINT"
        model.release()
        assert line_of(program) == "one two three"
        assert program.wait(PATIENCE) == 0
        assert all_gone(processes)
