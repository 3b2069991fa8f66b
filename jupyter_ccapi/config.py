"""Every option of the project, in one place, as traitlets with help; and where its files lie.

``ServerOptions`` is mixed into the server extension (``--CCApiApp.x=…``, ``c.CCApiApp.x`` in
``jupyter_server_config.py`` or ``jupyter_ccapi_config.py``); ``NotebookOptions`` into the magics
(``c.ClaudeMagics.x`` in ``ipython_config.py``).
"""

import re
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from traitlets import (
    Bool,
    Dict,
    Enum,
    Float,
    HasTraits,
    Int,
    List,
    TraitError,
    Unicode,
    validate,
)


def data_folder() -> Path:
    """Where server and magics keep what is theirs, for this user; it need not exist."""
    return Path(jupyter_data_dir()) / "ccapi"


class CoreOptions(HasTraits):
    """What the server and the magics both need to know."""

    cli_path = Unicode(
        "",
        help="""The Claude Code executable. Empty: the one that comes with claude-agent-sdk,
        else `claude` on PATH.""",
    ).tag(config=True)

    warm = Bool(
        True,
        help="""Whether Claude Code processes stay for the next turn, are reused and are started
        ahead. Off, every turn starts one of its own and reads the conversation anew: half a second
        slower, for when in doubt whether it is the warm ones that err.""",
    ).tag(config=True)

    turn_timeout = Float(
        600.0,
        min=1.0,
        help="""Seconds that a turn may take before it is interrupted: a request is then answered
        504, a cell fails.""",
    ).tag(config=True)

    max_concurrent_sessions = Int(
        4,
        min=1,
        help="""How many Claude Code processes may run at once, those included that wait for the
        next request. Each takes 110 to 240 MB; where memory is short there are fewer.""",
    ).tag(config=True)


class ServerOptions(CoreOptions):
    """What an administrator or user of the server can set."""

    url_prefix = Unicode(
        "",
        help="""Where the routes are mounted below the server's base URL: '' gives /v1, /stats
        and /health; '/ccapi' gives /ccapi/v1 and so on.""",
    ).tag(config=True)

    default_model = Unicode(
        "",
        help="""The model for requests that name none: an alias (opus, sonnet, haiku), a full
        name or a key of model_map. Empty: Claude Code's own default.""",
    ).tag(config=True)

    model_map = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""Further model names that clients may ask for, and the model that answers each:
        {"gpt-4o": "sonnet", "gpt-4o-mini": "haiku"}.""",
    ).tag(config=True)

    cli_environment = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""Environment variables for the Claude Code processes, over those of the server:
        {"ANTHROPIC_BASE_URL": "https://gateway.example"}.""",
    ).tag(config=True)

    spares = Int(
        2,
        min=0,
        help="""How many processes are kept ready for new conversations once there was a first
        request: one for any, the others with the system prompt, tools and schema asked for last
        and most. At most half of max_concurrent_sessions; none in a container under 2 GB.""",
    ).tag(config=True)

    max_queue = Int(
        64,
        min=0,
        help="""How many requests may wait for a process; one more is answered 429 with a
        Retry-After.""",
    ).tag(config=True)

    queue_deadline = Float(
        30.0,
        min=0.1,
        help="""Seconds that a request waits for a process before it is answered 429.""",
    ).tag(config=True)

    idle_timeout = Float(
        600.0,
        min=1.0,
        help="""Seconds after which a process is ended whose conversation nobody continues, or that
        was kept ready and nobody needed.""",
    ).tag(config=True)

    start_timeout = Float(
        30.0, min=1.0, help="""Seconds that a Claude Code process may take to come up."""
    ).tag(config=True)

    keep_alive = Float(
        15.0,
        min=0.05,
        help="""Seconds of silence in a stream after which a comment keeps proxies from closing
        it.""",
    ).tag(config=True)

    tool_timeout = Float(
        300.0,
        min=1.0,
        help="""Seconds that a process waits for a client that works on a tool call. Afterwards, or
        sooner where others wait for a process, the call can still be answered: the conversation
        is then read anew.""",
    ).tag(config=True)

    database_url = Unicode(
        "",
        help="""The database of conversations, responses and keys, for SQLAlchemy:
        postgresql+asyncpg://user:password@host/name. Empty: an SQLite file in Jupyter's data
        folder.""",
    ).tag(config=True)

    store_conversations = Bool(
        True,
        help="""Whether conversations are kept so that they can be gone on with by their id, also
        after a restart. What a request with "store": false adds is not kept in any case.""",
    ).tag(config=True)

    keep_days = Float(
        30.0,
        min=0.0,
        help="""Days after its last turn that a conversation or response is deleted; 0 keeps
        them.""",
    ).tag(config=True)

    additional_folders = List(
        trait=Unicode(),
        help="""Folders beside the server's root_dir in which agents may work and images may
        lie.""",
    ).tag(config=True)

    fetch_images = Bool(
        True,
        help="""Whether images named by a URL are fetched, from public addresses only.""",
    ).tag(config=True)

    default_mode = Enum(
        ["chat", "agent"],
        "chat",
        help="""How requests are served that do not say it: `chat` has no tools but the client's;
        `agent` is Claude Code with its tools, in root_dir.""",
    ).tag(config=True)

    agent_mode = Bool(
        True,
        help="""Whether requests may have agents. Those read in root_dir, and what a person would
        be asked about is denied, unless the options below allow more.""",
    ).tag(config=True)

    agent_permission_modes = List(
        trait=Unicode(),
        default_value=["default", "plan", "dontAsk"],
        help="""The permission modes of Claude Code that a request may ask for. With acceptEdits
        agents change files; with bypassPermissions they do anything that this server's user
        may do.""",
    ).tag(config=True)

    agent_allowed_tools = List(
        trait=Unicode(),
        help="""The tools of Claude Code that a request may allow without asking, in its own
        words: "Bash(git status:*)", "Read(//data/**)". Agents read within their folder without
        it; a bare name, as "Read", opens every file that this server's user may read.""",
    ).tag(config=True)

    agent_max_budget_usd = Float(
        0.0,
        min=0.0,
        help="""What one agent request may spend at the most, in USD; 0 sets no bound.""",
    ).tag(config=True)

    max_sessions = Int(
        200,
        min=1,
        help="""How many sessions may be open at once, those included that nobody looks at; one
        more is refused with 429.""",
    ).tag(config=True)

    session_idle_timeout = Float(
        3600.0,
        min=0.0,
        help="""Seconds after which a session is closed that nobody watches and in which nothing
        runs, unless it is pinned; it can be resumed. 0: never.""",
    ).tag(config=True)

    keys_may_approve = Bool(
        False,
        help="""Whether whoever has an API key may allow in a session what Claude asks for. Off,
        they can only deny, and the server's owner allows. On, a key is worth as much as an account
        on this machine: with it Claude can be had to do anything that this server's user may
        do.""",
    ).tag(config=True)

    cors_origins = List(
        trait=Unicode(),
        help="""Web pages that may use these routes from a browser: origins such as
        "https://app.example", or "*" for all. They need a key or the token all the same.""",
    ).tag(config=True)

    @validate("url_prefix")
    def _check_prefix(self, proposal: dict[str, str]) -> str:
        prefix = proposal["value"].rstrip("/")
        if prefix and not prefix.startswith("/"):
            raise TraitError(f"CCApiApp.url_prefix must begin with a slash, not {prefix!r}.")
        return prefix

    @validate("cors_origins")
    def _check_origins(self, proposal: dict[str, list[str]]) -> list[str]:
        for origin in proposal["value"]:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", origin):
                raise TraitError(
                    f"CCApiApp.cors_origins: {origin!r} is no origin; write https://app.example, "
                    "without a path or a slash at the end."
                )
        return proposal["value"]


class NotebookOptions(CoreOptions):
    """What a user of the magics can set."""

    model = Unicode(
        "",
        help="""The model of %%claude cells that name none: an alias (opus, sonnet, haiku) or a
        full name. Empty: Claude Code's own default.""",
    ).tag(config=True)

    updates_per_second = Float(
        12.0, min=0.5, max=60.0, help="""How often a streaming answer is drawn anew."""
    ).tag(config=True)

    budget_usd = Float(
        5.0,
        min=0.0,
        help="""What a cell in agent mode may spend, in USD, that says nothing with --budget;
        0 sets no bound. The turn is ended when it has cost so much.""",
    ).tag(config=True)

    approvals = Enum(
        ["auto", "widget", "input", "deny"],
        "auto",
        help="""How a person is asked for permission: by buttons below the cell (`widget`), by a
        line of text (`input`), or not at all (`deny`). `auto`: by buttons where ipykernel delivers
        a click while a cell runs (7.4), by text elsewhere, and not at all where a notebook is run
        without a person.""",
    ).tag(config=True)
