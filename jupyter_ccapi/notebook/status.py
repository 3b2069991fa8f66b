"""`%claude_status` and `%claude_login_help`: what Claude Code is here, how it gets an account."""

from jupyter_ccapi.claude import ALIASES, CLI, ClaudeError, cli, find_cli
from jupyter_ccapi.claude.errors import HOW_TO_LOG_IN

from .desk import Desk
from .lists import table
from .looks import Bundle

_LOGIN = (
    ("A Claude account", "run `claude` in a terminal (a JupyterLab terminal will do) and log in"),
    ("An API key", "set ANTHROPIC_API_KEY before JupyterLab or the kernel starts"),
    (
        "Bedrock, Vertex or a gateway",
        "set CLAUDE_CODE_USE_BEDROCK=1, CLAUDE_CODE_USE_VERTEX=1 or ANTHROPIC_BASE_URL, and what "
        "belongs to it",
    ),
    (
        "On a shared server",
        "use a key, Bedrock, Vertex or a gateway: one person's subscription is for that person",
    ),
)


def status(desk: Desk) -> Bundle:
    """Which Claude Code is used, its login, models, processes, and what was spent. Blocks."""
    rows = [*_program(desk), *_models(desk)]
    slots = list(desk.pool.slots)
    idle = sum(slot.state == "idle" for slot in slots)
    rows.append(("Processes", f"{len(slots)} running, {idle} of them warm and waiting"))
    rows += [
        (
            f"Conversation {dialog.name}",
            f"{dialog.settings.mode}, {dialog.turns} turns, "
            f"{dialog.usage.total_tokens:,} tokens, ${dialog.cost_usd:.4f}",
        )
        for dialog in desk.dialogs.values()
    ]
    spent = sum(dialog.cost_usd for dialog in desk.dialogs.values())
    rows.append(("Spent in this kernel", f"${spent:.4f}"))
    return table(("Claude Code", ""), rows)


def login_help() -> Bundle:
    """How Claude Code gets an account."""
    return table(("With", "do this"), [(what, how) for what, how in _LOGIN])


def _program(desk: Desk) -> list[tuple[str, str]]:
    try:
        found = find_cli(desk.options.cli_path or None)
    except ClaudeError as error:
        return [("Program", str(error))]
    try:
        version, account = desk.wait(_asked(found))
    except ClaudeError as error:
        return [("Program", str(found.path)), ("Login", str(error))]
    return [("Program", f"{version}, {found.path}"), ("Login", account)]


async def _asked(found: CLI) -> tuple[str, str]:
    version, account = await cli.version(found), await cli.login(found)
    if not account.logged_in:
        return version, f"none. {HOW_TO_LOG_IN}."
    return version, f"{account.method}, {account.provider}"


def _models(desk: Desk) -> list[tuple[str, str]]:
    known = ", ".join(dict.fromkeys((*ALIASES, *desk.reported_models)))
    return [("Models", known), ("Model of new conversations", desk.options.model or "its default")]
