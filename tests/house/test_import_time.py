"""Importing the server extension costs a server's start little."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a Jupyter server imports by itself.
HOST = "import jupyter_server.serverapp, jupyter_server.extension.application"
EXTENSION = "import jupyter_ccapi.server.app"
BUDGET_MS = 300

# A line of `-X importtime`: self and cumulative microseconds, and the module, indented by depth.
LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python over the sources of the checkout."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )


def self_times(code: str) -> dict[str, int]:
    """The modules that `code` imports, each with its own time in microseconds."""
    report = run("-X", "importtime", "-c", code).stderr
    return {name: int(microseconds) for microseconds, name in LINE.findall(report)}


def test_importing_the_extension_adds_at_most_300_ms() -> None:
    """What it imports beyond the host; the best of three runs, as the machine may be busy."""
    host = self_times(HOST)
    runs = [self_times(f"{HOST}; {EXTENSION}") for _ in range(3)]
    added = [{name: us / 1000 for name, us in run.items() if name not in host} for run in runs]
    best = min(added, key=lambda modules: sum(modules.values()))
    assert "jupyter_ccapi.server.app" in best
    dearest = sorted(best.items(), key=lambda item: -item[1])[:10]
    assert sum(best.values()) <= BUDGET_MS, dearest


def test_importing_the_extension_leaves_the_slow_packages_for_later() -> None:
    """The SDK comes with the first request, IPython with the first magic."""
    report = run("-c", f"{EXTENSION}; import json, sys; print(json.dumps(list(sys.modules)))")
    assert set(json.loads(report.stdout)) & {"claude_agent_sdk", "mcp", "IPython"} == set()
