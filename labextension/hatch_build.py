"""Builds the JupyterLab panel into the wheel and the sdist, or leaves it out and says so.

The server extension and the magics need no Node, so an install must not fail for want of it.
The panel is

- reused, when its built files are there and no source is newer (in an sdist they always belong
  together);
- built, when Node is there: `jlpm install` and `jlpm build:prod`;
- left out, with one line that says why, when neither is possible.

Two environment variables change that: `SKIP_JUPYTER_BUILDER=1` leaves the panel out without trying;
`CCAPI_REQUIRE_PANEL=1`, which continuous integration sets, makes leaving it out an error.

An installed package shows whether it has the panel by the file
`share/jupyter/labextensions/jupyter-ccapi/package.json` under its environment's prefix.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "labextension"
ASSETS = "jupyter_ccapi/labextension"
INSTALLED = "share/jupyter/labextensions/jupyter-ccapi"

# What decides the built files; the rest of the folder is the build's own output.
BUILD_INPUTS = (
    "src",
    "style",
    "schema",
    "package.json",
    "tsconfig.json",
    "yarn.lock",
    ".yarnrc.yml",
)

# Each step takes about 30 s; against a registry that never answers, the first would wait for long.
STEP_SECONDS = 240

TO_SEE_MORE = (
    "Can this machine reach its npm registry? "
    f"`jlpm install && jlpm build:prod` in {SOURCES}/ shows more."
)


class PanelLeftOut(Exception):
    """The panel cannot be part of this build; the message says why and what to do."""


class PanelBuildHook(BuildHookInterface[Any]):
    """Hatchling's hook: called once for each wheel, editable wheel and sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Provide the panel's files and name them in `build_data`, or leave them out.

        Raises `PanelLeftOut` where `CCAPI_REQUIRE_PANEL=1` asks for the panel.
        """
        try:
            provide_panel(Path(self.root))
        except PanelLeftOut as reason:
            if os.environ.get("CCAPI_REQUIRE_PANEL") == "1":
                raise
            self.app.display_warning(f"jupyter_ccapi: the JupyterLab panel is left out: {reason}")
            return
        if self.target_name == "sdist":
            build_data["artifacts"].append(f"/{ASSETS}/")
        else:
            build_data["shared_data"][ASSETS] = INSTALLED
            build_data["shared_data"][f"{SOURCES}/install.json"] = f"{INSTALLED}/install.json"


def provide_panel(root: Path) -> None:
    """Make sure that `root` holds built files of the panel that belong to its sources.

    Raises `PanelLeftOut` with the reason where that is not possible.
    """
    if os.environ.get("SKIP_JUPYTER_BUILDER"):
        raise PanelLeftOut("SKIP_JUPYTER_BUILDER is set.")
    if is_built(root) and (is_sdist(root) or not is_stale(root)):
        return
    require_node()
    build(root / SOURCES)
    if not is_built(root):
        raise PanelLeftOut(f"its build left no complete {ASSETS}.")


def build(sources: Path) -> None:
    """Fetch the panel's packages and build it; raises `PanelLeftOut` where either step fails."""
    # jupyter-builder brings jlpm, so it is on the PATH of the build's environment.
    jlpm = shutil.which("jlpm") or "jlpm"
    for step in ("install", "build:prod"):
        try:
            subprocess.run([jlpm, step], cwd=sources, check=True, timeout=STEP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise PanelLeftOut(
                f"`jlpm {step}` took over {STEP_SECONDS} s. {TO_SEE_MORE}"
            ) from error
        except subprocess.CalledProcessError as error:
            reason = f"`jlpm {step}` ended with exit code {error.returncode}. {TO_SEE_MORE}"
            raise PanelLeftOut(reason) from error
        except OSError as error:
            raise PanelLeftOut(f"`jlpm {step}` does not run ({error}).") from error


def is_built(root: Path) -> bool:
    """Say whether a finished build is there: the builder names its entry point last."""
    try:
        package = json.loads((root / ASSETS / "package.json").read_text("utf-8"))
        entry: str = package["jupyterlab"]["_build"]["load"]
    except (OSError, ValueError, KeyError):
        return False
    return (root / ASSETS / entry).is_file()


def is_sdist(root: Path) -> bool:
    """Say whether `root` is an unpacked sdist, whose file times mean nothing."""
    return (root / "PKG-INFO").is_file()


def is_stale(root: Path) -> bool:
    """Say whether a source of the panel is newer than the built files."""
    built = (root / ASSETS / "package.json").stat().st_mtime
    inputs = [root / SOURCES / name for name in BUILD_INPUTS]
    files = [path for entry in inputs for path in (entry.rglob("*") if entry.is_dir() else [entry])]
    return any(path.is_file() and path.stat().st_mtime > built for path in files)


def require_node() -> None:
    """Raise `PanelLeftOut` unless a Node that the panel's builder runs on is on the PATH."""
    node = shutil.which("node")
    if node is None:
        raise PanelLeftOut("Node.js is not installed. Install Node 20.19 or newer to have it.")
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PanelLeftOut(f"{node} does not run ({error}).") from error
    found = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    if found is None:
        raise PanelLeftOut(f"`{node} --version` gave no version.")
    if (int(found[1]), int(found[2])) < (20, 19):
        raise PanelLeftOut(f"Node {found[0]} is too old. Install Node 20.19 or newer to have it.")
