"""``jupyter ccapi key``: making, listing and taking back the keys of this server's API."""

import math
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from textwrap import dedent

from jupyter_core.application import JupyterApp
from traitlets import Unicode

from .._version import __version__
from ..config import data_folder
from ..store import Key, NoSuchKey, Store, StoreError
from .app import CCApiApp
from .command import Command, WrongUse
from .gateway import store_of
from .principal import owner_of_this_server

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_HEADINGS = ("NAME", "KEY", "STATE", "MODELS", "SPENT", "EXPIRES", "LAST USED")


class _KeyCommand(Command):
    """What the commands share: the server's store, and the name of a key."""

    aliases = {"database-url": "CCApiApp.database_url", "config": "JupyterApp.config_file"}

    async def run(self) -> None:
        """Do it with the server's store."""
        store = store_of(CCApiApp(config=self.config), data_folder())
        try:
            await self.work(store)
        finally:
            await store.close()

    async def work(self, store: Store) -> None:
        """Do what is asked."""
        raise NotImplementedError

    def name_given(self) -> str:
        """The one argument of the command."""
        if len(self.extra_args) != 1:
            problem = "Give the name of one key"
            if self.extra_args:
                problem += f", not {len(self.extra_args)} arguments ({' '.join(self.extra_args)})"
            raise WrongUse(f"{problem}: {self.description.splitlines()[0]}")
        return str(self.extra_args[0])


class CreateKeyApp(_KeyCommand):
    """Make a key and print its secret."""

    name = "jupyter ccapi key create"
    description = """jupyter ccapi key create NAME [--models A,B] [--budget USD] [--expires WHEN]

    Make a key for a program that uses this server's API. The last line, and all that goes to the
    standard output, is the key itself. It is shown this once: only a fingerprint of it is kept.
    """
    examples = dedent(
        """
        jupyter ccapi key create laptop
        jupyter ccapi key create ci --models sonnet,haiku --budget 5.00 --expires 30d
        export OPENAI_API_KEY=$(jupyter ccapi key create shell --expires 2026-12-31)
        """
    )
    aliases = {
        "models": "CreateKeyApp.models",
        "budget": "CreateKeyApp.budget",
        "expires": "CreateKeyApp.expires",
        **_KeyCommand.aliases,
    }

    models = Unicode(
        "",
        help="""The models that may be asked for with it, separated by commas. Empty: all.""",
    ).tag(config=True)

    budget = Unicode(
        "",
        help="""US dollars that may be spent with it in all: 5.00. Empty: any amount.""",
    ).tag(config=True)

    expires = Unicode(
        "",
        help="""When it ends: after some hours (12h), days (30d) or weeks (8w), or with a day of
        the local time (2026-12-31). Empty: never.""",
    ).tag(config=True)

    async def work(self, store: Store) -> None:
        """Make the key and print it."""
        key, secret = await store.keys.create(
            owner_of_this_server().id,
            self.name_given(),
            models=parse_models(self.models),
            budget_usd=parse_budget(self.budget),
            expires_at=parse_expiry(self.expires, datetime.now()),
        )
        told = [
            f"The key {key.name!r} was made. This is the only time that it is shown:",
            "give it to the program as its API key, and to nobody else.",
            f"Models: {_models(key)}. Budget: {_budget(key)}. Expires: {_day(key.expires_at)}.",
        ]
        print("\n".join(told), file=sys.stderr, flush=True)
        print(secret)


class ListKeysApp(_KeyCommand):
    """List all keys."""

    name = "jupyter ccapi key list"
    description = """jupyter ccapi key list

    List all keys, those too that are no longer valid: how each begins, what it may use, what was
    spent with it, when it ends and when it was last used.
    """

    async def work(self, store: Store) -> None:
        """Print them."""
        if self.extra_args:
            raise WrongUse(f"`key list` takes no argument, not {' '.join(self.extra_args)!r}.")
        keys = await store.keys.list(owner_of_this_server().id)
        if keys:
            print(table([_HEADINGS, *map(_row, keys)]))
        else:
            told = "There is no key yet. Make one with `jupyter ccapi key create NAME`."
            print(told, file=sys.stderr)


class RevokeKeyApp(_KeyCommand):
    """Take a key back."""

    name = "jupyter ccapi key revoke"
    description = """jupyter ccapi key revoke NAME

    Take a key back, at once and for good: who uses it is refused from then on. Its name is free
    for another key.
    """

    async def work(self, store: Store) -> None:
        """Revoke it."""
        try:
            key = await store.keys.revoke(owner_of_this_server().id, self.name_given())
        except NoSuchKey as error:
            hint = "`jupyter ccapi key list` shows those that there are."
            raise StoreError(f"{str(error).rstrip('.')} that is valid: {hint}") from error
        print(f"The key {key.name!r} ({key.prefix}…) is revoked.")


class KeyApp(JupyterApp):
    """Make, list and take back keys for this server's API."""

    name = "jupyter ccapi key"
    version = __version__
    description = """jupyter ccapi key create | list | revoke

    Keys let programs use this server's API and nothing else of the server. Unlike the server's
    token, which opens notebooks and terminals too, a key stays the same when the server restarts,
    can be limited to models, a budget and a time, and be taken back by itself.
    """
    examples = dedent(
        """
        jupyter ccapi key create laptop --budget 5.00 --expires 30d
        jupyter ccapi key list
        jupyter ccapi key revoke laptop
        jupyter ccapi key create --help
        """
    )
    flags = {}
    aliases = {"config": "JupyterApp.config_file"}
    subcommands = {
        "create": (CreateKeyApp, "Make a key and print it, this once."),
        "list": (ListKeysApp, "List all keys, and what was spent with each."),
        "revoke": (RevokeKeyApp, "Take a key back."),
    }

    def start(self) -> None:
        """Run the command that was named; say which there are if none was."""
        if self.subapp is not None:
            self.subapp.start()
            return
        wrong = f"There is no `key {self.extra_args[0]}`." if self.extra_args else "Do what?"
        print(f"{wrong} Say one of: {', '.join(self.subcommands)}.", file=sys.stderr)
        self.exit(2)


def parse_models(text: str) -> list[str] | None:
    """Names between commas; None for an empty text. Raises ``WrongUse``."""
    names = [name.strip() for name in text.split(",")]
    if names == [""]:
        return None
    if "" in names:
        raise WrongUse(f"--models {text!r} names no model in one place: write --models opus,haiku.")
    return names


def parse_budget(text: str) -> float | None:
    """US dollars; None for an empty text. Raises ``WrongUse``."""
    if not text:
        return None
    with suppress(ValueError):
        if 0 < (budget := float(text)) < math.inf:
            return budget
    raise WrongUse(f"--budget {text!r} is no amount of US dollars above zero: write --budget 5.00.")


def parse_expiry(text: str, now: datetime) -> float | None:
    """A time from ``now`` on (30d, 12h, 8w) or the end of a day (2026-12-31), both local, as Unix
    seconds; None for an empty text. Raises ``WrongUse``.
    """
    if not text:
        return None
    try:
        if span := re.fullmatch(r"(\d+)([hdw])", text):
            end = now + int(span[1]) * _UNITS[span[2]]
        else:
            day = date.fromisoformat(text) + timedelta(days=1)
            end = datetime.combine(day, time_of_day())
        expires_at = end.timestamp()
    except (ValueError, OverflowError):
        raise WrongUse(
            f"--expires {text!r} is neither a time like 12h, 30d or 8w nor a day like 2026-12-31."
        ) from None
    if end <= now:
        raise WrongUse(f"--expires {text!r} is over already.")
    return expires_at


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(key: Key) -> tuple[str, ...]:
    spent = f"{key.spent_usd:.2f} of {_budget(key)}"
    used = "never" if key.last_used_at is None else _minute(key.last_used_at)
    return (
        key.name,
        f"{key.prefix}…",
        _state(key),
        _models(key),
        spent,
        _day(key.expires_at),
        used,
    )


def _state(key: Key) -> str:
    if key.revoked:
        return "revoked"
    if key.expired(time.time()):
        return "expired"
    return "spent" if key.exhausted else "valid"


def _models(key: Key) -> str:
    return "all" if key.models is None else ",".join(key.models)


def _budget(key: Key) -> str:
    return "any" if key.budget_usd is None else f"{key.budget_usd:.2f} USD"


def _day(moment: float | None) -> str:
    return "never" if moment is None else _minute(moment)


def _minute(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M")
