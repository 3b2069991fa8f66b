"""Running several processes on one store."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(url: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process of ``a_program`` that is ready and waits."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.a_program", url, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    """Have it begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def run_together(url: str, *works: tuple[str, ...]) -> None:
    """Run a process for each work, all at once and to their ends; none may fail."""
    processes = [start(url, *work) for work in works]
    for process in processes:
        go(process)
    for process in processes:
        with process:
            process.communicate(timeout=60)
            assert process.returncode == 0
