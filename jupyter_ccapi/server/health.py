"""Find out what Claude Code is here: for ``/health?deep=1`` and ``jupyter ccapi doctor``."""

from typing import Any

from jupyter_ccapi.claude import cli, find_cli
from jupyter_ccapi.claude.errors import ClaudeError, NotLoggedIn
from jupyter_ccapi.config import ServerOptions

from .._version import __version__


async def examine(options: ServerOptions) -> dict[str, Any]:
    """Say which CLI is found, its version and whether it is logged in.

    ``status`` is ``ok``, ``degraded`` (nobody is logged in) or ``unavailable`` (no CLI that runs);
    ``problem`` says what to do about it.
    """
    report: dict[str, Any] = {
        "status": "ok",
        "version": __version__,
        "cli": None,
        "logged_in": None,
    }
    try:
        found = find_cli(options.cli_path)
        environment = options.cli_environment
        report["cli"] = {
            "path": str(found.path),
            "source": found.source,
            "version": await cli.version(found, environment),
        }
        login = await cli.login(found, environment)
    except ClaudeError as error:
        return {**report, "status": "unavailable", "problem": str(error)}
    report |= {"logged_in": login.logged_in, "login": login.method, "provider": login.provider}
    if not login.logged_in:
        report |= {"status": "degraded", "problem": str(NotLoggedIn())}
    return report
