"""``jupyter ccapi doctor``: what is found, what is missing, and what to do about each thing."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_path, jupyter_path
from jupyter_server.extension.config import ExtensionConfigManager
from packaging.version import Version

from jupyter_ccapi.claude import CLI
from jupyter_ccapi.claude.capabilities import FACTS, Fact
from jupyter_ccapi.claude.errors import HOW_TO_LOG_IN, ClaudeError
from jupyter_ccapi.claude.probe import CapabilityProbe
from jupyter_ccapi.demo import OfflineModel

from .._version import __version__
from ..config import ServerOptions, data_folder
from .app import CCApiApp
from .command import Command
from .health import examine

_IPYKERNEL = Version("7.4")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``needed`` says whether nothing works without it; ``section`` is the
    heading that it stands under.
    """

    what: str
    ok: bool
    said: str
    todo: str = ""
    needed: bool = True
    section: str = ""


class DoctorApp(Command):
    """Say what Claude Code is found, whether it is logged in and what else is missing."""

    name = "jupyter-ccapi-doctor"
    description = """Check what jupyter_ccapi needs: the Claude Code CLI and its login, the server
    extension, the JupyterLab panel, a kernel. The exit code is 0 when Claude can be used."""
    aliases = {"config": "JupyterApp.config_file"}

    async def run(self) -> None:
        """Print the report and exit."""
        findings = await diagnose(CCApiApp(config=self.config))
        print(report(findings))
        self.exit(0 if all(finding.ok for finding in findings if finding.needed) else 1)


async def diagnose(options: ServerOptions) -> list[Finding]:
    """Look at everything. Nothing is changed, but that what the CLI can do is remembered; no model
    is asked, but one on this machine that stands in for Claude.
    """
    health = await examine(options)
    return [*_claude(health), _extension(), _panel(), _kernel(), *(await _warm_starts(health))]


def report(findings: list[Finding]) -> str:
    """The findings as lines: a mark, what, what was found, and below it what to do."""
    lines = [f"jupyter_ccapi {__version__}, Python {sys.version.split()[0]}"]
    for section, group in groupby(findings, lambda finding: finding.section):
        lines += ["", section] if section else []
        lines += _lines(list(group))
    return "\n".join(lines)


def _lines(findings: list[Finding]) -> list[str]:
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        mark = "ok " if finding.ok else "NO " if finding.needed else "-  "
        lines.append(f"{mark} {finding.what:<{width}}  {finding.said}")
        if finding.todo:
            lines.append(f"{'':{width + 6}}{finding.todo}")
    return lines


def _claude(health: dict[str, Any]) -> list[Finding]:
    cli = health["cli"]
    if cli is None:
        return [Finding("Claude Code", False, "cannot be used", health["problem"])]
    found = Finding("Claude Code", True, f"{cli['version']}, {cli['source']}: {cli['path']}")
    if health["logged_in"]:
        said = f"yes, by {health['login']} ({health['provider']})"
        return [found, Finding("Logged in", True, said)]
    return [found, Finding("Logged in", False, "no", f"{HOW_TO_LOG_IN}.")]


async def _warm_starts(health: dict[str, Any]) -> list[Finding]:
    """What of the ways around a cold start this CLI allows, and what is done in place of each."""
    cli = health["cli"]
    if cli is None:
        return []
    probe = CapabilityProbe(OfflineModel, data_folder())
    try:
        found = await probe(CLI(Path(cli["path"]), cli["source"]))
    except ClaudeError as error:
        return [Finding("What it can do", False, "not found out", str(error), False, "Warm starts")]
    section = f"Warm starts, as found for Claude Code {cli['version']}"
    return [_warm_start(fact, getattr(found, fact.name), section) for fact in FACTS]


def _warm_start(fact: Fact, able: bool, section: str) -> Finding:
    what = fact.what[0].upper() + fact.what[1:]
    said = f"yes: {fact.given}" if able else f"no: {fact.without}"
    return Finding(what, able, said, needed=False, section=section)


def _extension() -> Finding:
    """Whether the next `jupyter lab` or `jupyter server` loads the routes."""
    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    extensions = manager.get_jpserver_extensions()  # type: ignore[no-untyped-call]
    enabled = extensions.get("jupyter_ccapi")
    todo = "Run `jupyter server extension enable jupyter_ccapi`."
    return Finding(
        "Server extension",
        bool(enabled),
        "enabled" if enabled else "not enabled",
        "" if enabled else todo,
    )


def _panel() -> Finding:
    for folder in jupyter_path("labextensions"):
        path = Path(folder, "jupyter-ccapi")
        if (path / "package.json").is_file():
            return Finding("JupyterLab panel", True, f"installed: {path}", needed=False)
    return Finding(
        "JupyterLab panel",
        False,
        "left out when this was installed",
        "Everything else works without it. To have it, install Node.js 20.19 or newer and then "
        "jupyter_ccapi again.",
        needed=False,
    )


def _kernel() -> Finding:
    try:
        found = Version(version("ipykernel"))
    except PackageNotFoundError:
        todo = "For %%claude in notebooks, install the extra: pip install 'jupyter_ccapi[lab]'."
        return Finding("Kernel", False, "no ipykernel in this environment", todo, needed=False)
    if found < _IPYKERNEL:
        todo = f"Upgrade it: pip install 'ipykernel>={_IPYKERNEL}'."
        return Finding("Kernel", False, f"ipykernel {found} is too old", todo, needed=False)
    return Finding("Kernel", True, f"ipykernel {found}", needed=False)
