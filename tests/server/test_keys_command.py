"""`jupyter ccapi key`, as a user runs it."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from jupyter_ccapi.server.command import WrongUse
from jupyter_ccapi.server.keys_command import parse_budget, parse_expiry, parse_models
from jupyter_ccapi.server.principal import OWNER
from jupyter_ccapi.store import Key, Store

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(home: Path) -> Run:
    """Run `jupyter ccapi key ARGUMENTS` to its end, for a user of this home."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "COLUMNS": "100",
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "jupyter_ccapi", "key", *arguments],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def keys_in(store: Store, *secrets: str) -> tuple[list[Key], list[Key | None]]:
    """All keys of a store, and those with these secrets."""

    async def look() -> tuple[list[Key], list[Key | None]]:
        found = [await store.keys.verify(secret) for secret in secrets]
        keys = await store.keys.list()
        await store.close()
        return keys, found

    return asyncio.run(look())


def test_a_key_is_made_listed_and_revoked(run: Run, home: Path) -> None:
    made = run("create", "laptop", "--models", "opus, haiku", "--budget=2.50", "--expires", "30d")
    assert (made.returncode, made.stdout.count("\n")) == (0, 1)
    secret = made.stdout.strip()
    assert re.fullmatch(r"sk-ccapi-[\w-]{43}", secret)
    assert "only time" in made.stderr
    assert "Models: opus,haiku. Budget: 2.50 USD." in made.stderr
    keys, found = keys_in(Store.in_folder(home / "data" / "ccapi"), secret)
    (key,) = keys
    assert found == [key]
    assert (key.owner, key.name, key.models, key.budget_usd) == (
        OWNER.id,
        "laptop",
        ["opus", "haiku"],
        2.5,
    )
    assert key.expires_at is not None
    assert abs(key.expires_at - time.time() - 30 * 86400) < 3700  # a clock may be set in between
    row = rf"laptop +{re.escape(key.prefix)}… +valid +opus,haiku +0\.00 of 2\.50 USD +\d.* +never"
    listed = run("list")
    assert re.search(row, listed.stdout)
    assert secret not in listed.stdout + listed.stderr
    revoked = run("revoke", "laptop")
    assert (revoked.returncode, revoked.stderr) == (0, "")
    assert "'laptop'" in revoked.stdout
    assert re.search(row.replace("valid", "revoked"), run("list").stdout)


def test_a_key_without_limits_is_said_to_have_none(run: Run) -> None:
    assert "Models: all. Budget: any. Expires: never." in run("create", "laptop").stderr


def test_no_key_yet_says_how_to_make_one(run: Run) -> None:
    listed = run("list")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "jupyter ccapi key create NAME" in listed.stderr


def test_the_keys_are_in_the_database_that_the_server_is_told_of(run: Run, home: Path) -> None:
    path = home / "elsewhere" / "our.db"
    (home / "config").mkdir()
    config = f"c.CCApiApp.database_url = 'sqlite+aiosqlite:///{path}'\n"
    (home / "config" / "jupyter_server_config.py").write_text(config)
    secret = run("create", "laptop").stdout.strip()
    _, (found,) = keys_in(Store(f"sqlite+aiosqlite:///{path}"), secret)
    assert found is not None
    assert not (home / "data").exists()
    other = run("list", f"--database-url=sqlite+aiosqlite:///{home}/other.db")
    assert "no key yet" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "create, list, revoke"),
        (["destroy"], 2, "no `key destroy`"),
        (["create"], 2, "jupyter ccapi key create NAME"),
        (["create", "my", "laptop"], 2, "not 2 arguments"),
        (["create", "my laptop"], 1, "letters, digits"),
        (["create", "laptop", "--budget", "free"], 2, "--budget 5.00"),
        (["create", "laptop", "--expires", "soon"], 2, "2026-12-31"),
        (["create", "laptop", "--models", "opus,,haiku"], 2, "--models opus,haiku"),
        # One that is only warned of would leave a key that never ends.
        (["create", "laptop", "--expirs", "30d"], 2, "no option --expirs"),
        (["create", "laptop", "--CreateKeyApp.expirs=30d"], 2, "no option CreateKeyApp.expirs"),
        (["create", "laptop", "--CCApiApp.databas_url=x"], 2, "no option CCApiApp.databas_url"),
        (["list", "all"], 2, "takes no argument"),
        (["list", "--database-url", "mysql://ann:s3cret@host/name"], 1, "ann:***@host"),
        (["list", "--CCApiApp.max_queue=soon"], 1, "max_queue"),
        (["revoke"], 2, "jupyter ccapi key revoke NAME"),
        (["revoke", "laptop"], 1, "'laptop'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_nothing_is_made(
    arguments: list[str], status: int, said: str, run: Run, home: Path
) -> None:
    finished = run(*arguments)
    assert (finished.returncode, finished.stdout) == (status, "")
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "s3cret" not in finished.stderr
    assert keys_in(Store.in_folder(home / "data" / "ccapi"))[0] == []


def test_a_name_that_is_taken_is_said_and_its_key_stays(run: Run, home: Path) -> None:
    secret = run("create", "laptop").stdout.strip()
    again = run("create", "laptop")
    assert (again.returncode, again.stdout) == (1, "")
    assert "'laptop' already" in again.stderr
    keys, found = keys_in(Store.in_folder(home / "data" / "ccapi"), secret)
    assert found == keys


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ([], ["create", "list", "revoke", "notebooks and terminals"]),
        (["create"], ["NAME", "--models", "--budget", "--expires", "--database-url", "this once"]),
        (["list"], ["no longer valid"]),
        (["revoke"], ["NAME", "for good"]),
    ],
)
def test_help_says_how_it_is_used(command: list[str], told: list[str], run: Run) -> None:
    shown = run(*command, "--help")
    assert shown.returncode == 0
    for words in told:
        assert words in " ".join(shown.stdout.split())


def test_times_are_understood() -> None:
    now = datetime(2026, 11, 23, 10, 30)
    assert parse_expiry("", now) is None
    for text, end in (
        ("12h", datetime(2026, 11, 23, 22, 30)),
        ("30d", datetime(2026, 12, 23, 10, 30)),
        ("8w", datetime(2027, 1, 18, 10, 30)),
        ("2026-12-31", datetime(2027, 1, 1)),  # that day is still good
        ("2026-11-23", datetime(2026, 11, 24)),
    ):
        assert parse_expiry(text, now) == end.timestamp()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-22", "over already"),
        ("0d", "over already"),
        ("-3d", "neither"),
        ("3 months", "neither"),
        ("2026-02-30", "neither"),
        ("9999-12-31", "neither"),
        ("9" * 30 + "w", "neither"),
        ("2026-12-31T10:00", "neither"),
    ],
)
def test_times_that_are_none_are_named(text: str, said: str) -> None:
    with pytest.raises(WrongUse, match=said) as caught:
        parse_expiry(text, datetime(2026, 11, 23, 10, 30))
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "$5", "5,00"])
def test_amounts_that_are_none_are_named(text: str) -> None:
    assert parse_budget("0.01") == 0.01
    with pytest.raises(WrongUse, match=re.escape(repr(text))):
        parse_budget(text)


def test_models_are_names_between_commas() -> None:
    assert parse_models("") is None
    assert parse_models("opus") == ["opus"]
    assert parse_models("opus, claude-sonnet-4-5") == ["opus", "claude-sonnet-4-5"]
    with pytest.raises(WrongUse):
        parse_models(",")
