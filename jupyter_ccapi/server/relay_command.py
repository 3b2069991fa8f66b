"""``jupyter ccapi relay``: Claude Code runs here, for a session on a server."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from traitlets import Unicode

from ..bridge.dialing import CannotConnect, is_exposed
from ..bridge.host import Host
from ..bridge.relay import Relay, RelayRefused, State
from ..bridge.source import Refused
from ..claude import ClaudeError, Conversation, Limits, Options, Pool, find_cli
from ..claude.arguments import check_arguments
from ..claude.history import Session
from ..claude.options import check_model
from ..claude.slots import Wanted
from ..claude.timeline import Timeline
from ..config import data_folder
from .app import CCApiApp
from .command import CannotBeDone, Command, WrongUse

#: Where the secret is read from; on a command line everybody on the machine could read it.
SECRET = "CCAPI_RELAY_SECRET"
# Whose processes these are, among those of this command.
_OWNER = "relay"
# What clients of a session can change later, and so is no word of the CLI's command line.
_CHANGEABLE = ("--model", "--permission-mode")


class RelayApp(Command):
    """Run Claude Code here for a session on a server."""

    name = "jupyter ccapi relay"
    description = """jupyter ccapi relay --url URL [--cwd FOLDER] [-- CLAUDE OPTIONS]

    Run Claude Code on this machine, with its files and its login, for a session on a server: its
    clients see what it does, send it prompts and answer when it asks for permission.

    The session is made on the server with `POST /v1/sessions {"source": "relay"}`; the answer has
    its URL and a secret, which is good once. The secret is asked for, or read from the variable
    CCAPI_RELAY_SECRET. A connection that is cut is made again, and nothing is lost. If this
    command itself was ended, `POST /v1/sessions {"resume": ID}` gives another secret, and the
    conversation goes on where it was.

    Whoever may use the session can have Claude do here what Claude Code may do: by default that
    asks before it changes anything, and clients of the session give the permission.

    What stands after -- goes to Claude Code, such as --model or --add-dir. The exit code is 0 when
    the session was closed or Ctrl-C was pressed, 1 when the server refuses it or Claude Code cannot
    be used.
    """
    examples = dedent(
        """
        jupyter ccapi relay --url https://hub.example/user/ada/ws/cli/session_0f3a
        jupyter ccapi relay --url ws://127.0.0.1:8888/ws/cli/session_0f3a --cwd ~/project
        jupyter ccapi relay --url wss://… -- --model opus --add-dir ../data
        """
    )
    aliases = {
        "url": "RelayApp.url",
        "cwd": "RelayApp.cwd",
        "cafile": "RelayApp.cafile",
        "config": "JupyterApp.config_file",
    }

    url = Unicode("", help="""The session's address for relays: wss://HOST/ws/cli/ID.""").tag(
        config=True
    )
    cwd = Unicode("", help="""The folder that Claude works in. Empty: this one.""").tag(config=True)
    cafile = Unicode(
        "", help="""Certificates to trust besides the system's, as a file in PEM format."""
    ).tag(config=True)

    def check(self) -> None:
        """Look at the words, and ask for the secret."""
        if not self.url:
            raise WrongUse("Say which session: --url wss://HOST/ws/cli/ID.")
        self._options = options_of(Path(self.cwd or "."), self.extra_args)
        self._secret = _secret()

    async def run(self) -> None:
        """Publish a conversation until the session is closed, or a signal comes."""
        configured = CCApiApp(config=self.config)
        pool = Pool(
            Limits(turn_timeout=configured.turn_timeout, warm=configured.warm, spares=0),
            find=lambda: find_cli(configured.cli_path),
            environment=configured.cli_environment,
        )
        with _stopping() as stop:
            try:
                await self._publish(Here(pool, self._options, data_folder()), stop)
            except (CannotConnect, RelayRefused, Refused, ClaudeError) as error:
                raise CannotBeDone(str(error)) from error
            finally:
                await pool.close()

    async def _publish(self, here: "Here", stop: asyncio.Event) -> None:
        def notice(state: State, why: str) -> None:
            match state:
                case "connected":
                    _say(f"Connected: the session runs here, in {here.options.cwd}.")
                case "cut":
                    _say(f"The connection was cut ({why}): connecting again.")
                case "back":
                    _say("The connection is back.")

        relay = Relay(
            self.url,
            self._secret,
            make=here.open,
            info=lambda: here.info,
            notice=notice,
            cafile=self.cafile or None,
        )
        here.tell, here.id = relay.tell, unquote(urlsplit(relay.url).path.rpartition("/")[2])
        if is_exposed(relay.url):
            _say("Others can read this connection, and its secret, on its way: https is safe.")

        async def run() -> None:
            await here.try_out()
            await relay.run()

        relaying = asyncio.create_task(run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([relaying, stopping], return_when=asyncio.FIRST_COMPLETED)
            await here.close()
            if relaying.done():
                relaying.result()
                _say("Closed: the session was ended on the server.")
            else:
                await relay.flush()
                _say("Closed.")
        finally:
            for task in (relaying, stopping):
                task.cancel()
            await asyncio.wait([relaying, stopping])


class Here:
    """The conversation that runs here, with the processes of ``pool``; its checkpoints are kept in
    ``folder``. It is known by the session's id: another relay on this machine goes on with it.
    """

    def __init__(self, pool: Pool, options: Options, folder: Path) -> None:
        self.options = options
        self.id = ""
        self.tell: Any = None
        self._pool = pool
        self._timelines = folder / "timelines" / "relay"
        self._snapshots = folder / "snapshots"
        self._host: Host | None = None

    @property
    def info(self) -> dict[str, Any]:
        """What it runs with."""
        if self._host is not None:
            return self._host.info
        mode = self.options.sdk.get("permission_mode", "default")
        cwd = str(self.options.cwd)
        return {"cwd": cwd, "model": self.options.model, "permission_mode": mode}

    async def try_out(self) -> None:
        """Start Claude Code, so that whoever is here sees if that fails; it then waits for the
        first prompt. Raises ``ClaudeError``.
        """
        wanted = Wanted.of(self.options, Session(str(uuid4())))
        slot = await self._pool.claim(_OWNER, wanted)
        try:
            await self._pool.prepare(slot, wanted)
        except BaseException:
            self._pool.release(slot)
            raise
        self._pool.park(slot, loose=True)

    async def open(self, resume: Mapping[str, Any] | None) -> Host:
        """Begin it, or go on with it where it was. Raises ``ClaudeError``."""
        id = str((resume or {}).get("id") or self.id)
        timeline = await Timeline.open(
            self._timelines, id, workspace=self.options.cwd, store=self._snapshots
        )
        options = self.options
        if await timeline.refused():
            # Claude Code's own checkpoints stand in for snapshots.
            options = replace(options, sdk={**options.sdk, "enable_file_checkpointing": True})
        conversation = Conversation(self._pool, options, owner=_OWNER, id=id, timeline=timeline)
        self._host = host = Host(conversation, self.tell, name="relay")
        return host

    async def close(self) -> None:
        """End it, if it has begun."""
        if self._host is not None:
            await self._host.close()


def options_of(cwd: Path, words: Sequence[str]) -> Options:
    """What the conversation runs with, by the words for Claude Code. Raises ``WrongUse``."""
    try:
        folder = cwd.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise WrongUse(f"--cwd {str(cwd)!r} is not a folder: {error}.") from None
    if not folder.is_dir():
        raise WrongUse(f"--cwd {str(cwd)!r} is not a folder.")
    rest, changeable = _lifted(words)
    try:
        check_model(changeable.get("--model"))
        check_arguments(rest)
    except ClaudeError as error:
        raise WrongUse(str(error)) from None
    mode = changeable.get("--permission-mode")
    return Options(
        mode="agent",
        model=changeable.get("--model"),
        cwd=folder,
        asks=True,
        sdk={"permission_mode": mode} if mode else {},
        arguments=tuple(rest),
    )


def _lifted(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words without the options that clients can change later, and those."""
    rest: list[str] = []
    lifted: dict[str, str] = {}
    waiting = iter(words)
    for word in waiting:
        name, sign, value = word.partition("=")
        if name not in _CHANGEABLE:
            rest.append(word)
            continue
        lifted[name] = value if sign else next(waiting, "")
        if not lifted[name] or lifted[name].startswith("-"):
            raise WrongUse(f"{name} needs a value: {name} NAME.")
    return rest, lifted


def _secret() -> str:
    # What runs here need not know it.
    secret = os.environ.pop(SECRET, "")
    if not secret and sys.stdin is not None and sys.stdin.isatty():
        with suppress(EOFError):
            secret = getpass("The session's secret: ")
    if not (secret := secret.strip()):
        raise WrongUse(f"There is no secret: put that of the session into the variable {SECRET}.")
    if not re.fullmatch(r"[\x21-\x7e]+", secret):
        raise WrongUse("That is no session's secret: it consists of letters, digits, - and _.")
    return secret


@contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set, in place of ending this process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    before = {
        name: signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
        for name in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _say(text: str) -> None:
    print(text, flush=True)
