"""What the real CLI can do beyond its public face: that it is found out, on nobody's account, and
that all is well without it.
"""

import asyncio
import json
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import (
    CLI,
    Capabilities,
    Conversation,
    Message,
    Options,
    Pool,
    find_cli,
    query,
)
from jupyter_ccapi.claude.capabilities import FACTS, PUBLIC
from jupyter_ccapi.claude.errors import CLIStartFailed
from jupyter_ccapi.claude.guard import MARK
from jupyter_ccapi.claude.probe import CapabilityProbe
from jupyter_ccapi.demo import LoggedRequest, OfflineModel
from tests.claude.conftest import ALL, MakePool
from tests.claude.support import (
    as_sent,
    clis,
    eventually,
    gone,
    messages_sent,
    spare_for,
    talk,
)

FILTER = Path(__file__).with_name("filtered_cli.py")
NAMES = tuple(asdict(ALL))


class Asked(Exception):
    """A probe has begun."""


def asking() -> OfflineModel:
    """Make no model, since that is where a probe begins."""
    raise Asked


def program(path: Path, *lines: str) -> CLI:
    """A CLI of a few lines of shell."""
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return CLI(path, "configured")


def filtered(folder: Path, fault: str) -> CLI:
    """The real CLI behind a fault of `filtered_cli.py`."""
    words = [sys.executable, "-I", str(FILTER), fault, str(find_cli().path)]
    return program(folder / f"claude-{fault.replace(' ', '-')}", f'exec {shlex.join(words)} "$@"')


def look(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that lies in a folder, and when it was changed."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@dataclass
class Probed:
    """A probe of the real CLI, in the environment of a user who has an account."""

    found: Capabilities
    requests: list[LoggedRequest]
    asked_of_the_user: list[LoggedRequest]
    home_before: dict[str, tuple[int, bytes]]
    home_after: dict[str, tuple[int, bytes]]
    cache: Path
    left_in_tmp: list[Path]


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probed]:
    """Probe it once; everything that could tell of the user's account holds `of-the-user`."""
    home, tmp = tmp_path_factory.mktemp("home-of-the-user"), tmp_path_factory.mktemp("tmp")
    cache = tmp_path_factory.mktemp("data") / "ccapi"
    models: list[OfflineModel] = []

    def make_model() -> OfflineModel:
        models.append(OfflineModel())
        return models[-1]

    with OfflineModel() as users, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "ANTHROPIC_API_KEY": "key-of-the-user",
            "ANTHROPIC_AUTH_TOKEN": "token-of-the-user",
            "ANTHROPIC_BASE_URL": users.url,
            "ANTHROPIC_BEDROCK_BASE_URL": users.url,
            "ANTHROPIC_CUSTOM_HEADERS": "x-header: of-the-user",
            "ANTHROPIC_MODEL": "claude-of-the-user",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "claude-of-the-user",
            "AWS_ACCESS_KEY_ID": "of-the-user",
            "AWS_BEARER_TOKEN_BEDROCK": "of-the-user",
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "of-the-user",
            "CLAUDE_CODE_OAUTH_TOKEN": "oauth-of-the-user",
            "CLAUDE_CODE_USE_BEDROCK": "1",
            "HTTPS_PROXY": "http://of-the-user:password@127.0.0.1:1",
            "HTTP_PROXY": "http://of-the-user:password@127.0.0.1:1",
        }.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(tmp))
        (home / ".claude").mkdir()
        settings = {"env": {"ANTHROPIC_BASE_URL": users.url}, "model": "claude-of-the-user"}
        (home / ".claude" / "settings.json").write_text(json.dumps(settings))
        before = look(home)
        found = asyncio.run(CapabilityProbe(make_model, cache)(find_cli()))
        (model,) = models
        yield Probed(
            found, model.requests, users.requests, before, look(home), cache, [*tmp.iterdir()]
        )


def test_the_real_cli_can_do_all_of_it(probed: Probed) -> None:
    assert probed.found == ALL


def test_it_is_found_out_on_nobodys_account(probed: Probed) -> None:
    assert probed.requests
    for request in probed.requests:
        assert "of-the-user" not in json.dumps([dict(request.headers), request.body]).lower()
        assert "x-header" not in {name.lower() for name in request.headers}
    assert probed.asked_of_the_user == []


def test_the_users_home_stays_as_it_was_and_nothing_else_is_left(probed: Probed) -> None:
    assert probed.home_after == probed.home_before
    assert probed.left_in_tmp == []
    assert not [process for process in psutil.process_iter() if MARK in _environment(process)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        variables: dict[str, str] = process.environ()
    except psutil.Error:
        return {}
    return variables if os.getpid() in [parent.pid for parent in process.parents()] else {}


def test_its_cli_gets_nothing_that_could_lead_it_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        *("ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "CLAUDE_CODE_USE_BEDROCK", "CLOUD_ML_REGION"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY", "XDG_CONFIG_HOME", "HOME"),
        *("JUPYTER_TOKEN", "NODE_OPTIONS", "A_NEW_KIND_OF_SECRET"),
    ):
        monkeypatch.setenv(name, "of-the-user")
    told = tmp_path / "told"
    cli = program(
        tmp_path / "claude",
        '[ "$1" = --version ] && echo 9.9.9 && exit',
        f"env > {told}; exit 3",
    )
    with pytest.raises(CLIStartFailed):
        asyncio.run(CapabilityProbe(OfflineModel, tmp_path / "cache")(cli))
    variables = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    assert "of-the-user" not in variables.values()
    assert variables["PATH"] == os.environ["PATH"]
    # The settings of the machine's administrator hold over the environment, but for a program
    # that says that the model is its own.
    assert variables["CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST"] == "1"


async def test_a_cli_that_is_answered_from_elsewhere_is_asked_nothing_more(tmp_path: Path) -> None:
    with OfflineModel() as elsewhere:
        real = shlex.quote(str(find_cli().path))
        cli = program(
            tmp_path / "claude",
            f"[ $1 = --version ] || export ANTHROPIC_BASE_URL={elsewhere.url}",
            f'exec {real} "$@"',
        )
        with pytest.raises(CLIStartFailed, match="does not ask the model that it is led to"):
            await CapabilityProbe(OfflineModel, tmp_path / "cache")(cli)
        assert len(elsewhere.main_requests) == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("ignores the system prompt", "bind_at_initialize"),
        ("ignores the appended prompt", "bind_at_initialize"),
        ("dies at a schema", "schema_at_initialize"),
        ("forgets histories", "seed"),
        ("hangs at histories", "seed"),
        ("forgets to cut", "rewind_conversation"),
        ("ignores settings", "set_bounds"),
        ("rewinds in a preview", "preview_rewind"),
    ],
)
async def test_what_a_cli_cannot_do_is_found_out_and_all_the_rest_is_too(
    fault: str, name: str, tmp_path: Path
) -> None:
    found = await CapabilityProbe(OfflineModel, tmp_path / "cache")(filtered(tmp_path, fault))
    assert asdict(found) == {**asdict(ALL), name: False}


async def test_what_was_found_is_kept_for_its_owner_alone(probed: Probed) -> None:
    (kept,) = probed.cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(probed.cache.stat().st_mode) == 0o700
    assert await CapabilityProbe(asking, probed.cache)(find_cli()) == ALL


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: "",
        lambda kept: "{",
        lambda kept: "[" * 100_000,
        lambda kept: "[]",
        lambda kept: json.dumps({**kept, "capabilities": []}),
        lambda kept: json.dumps({**kept, "capabilities": {"seed": True}}),
        lambda kept: json.dumps({**kept, "capabilities": {**kept["capabilities"], "fly": True}}),
        lambda kept: json.dumps({**kept, "capabilities": dict.fromkeys(NAMES, 1)}),
        lambda kept: json.dumps({**kept, "found_for": {**kept["found_for"], "cli": "1.0.0"}}),
        lambda kept: json.dumps({**kept, "found_for": {**kept["found_for"], "sdk": "0.0.1"}}),
        lambda kept: json.dumps({**kept, "found_for": {**kept["found_for"], "probe": 0}}),
    ],
    ids=[
        *("empty", "torn", "deep", "a list", "no names", "too few", "too many", "numbers"),
        *("another CLI", "another SDK", "another probe"),
    ],
)
async def test_a_file_that_cannot_be_relied_on_is_not(
    change: Callable[[Any], str], probed: Probed, tmp_path: Path
) -> None:
    (kept,) = probed.cache.iterdir()
    (tmp_path / kept.name).write_text(change(json.loads(kept.read_text())))
    with pytest.raises(Asked):
        await CapabilityProbe(asking, tmp_path)(find_cli())


async def test_another_version_is_probed_anew(probed: Probed, tmp_path: Path) -> None:
    newer = program(tmp_path / "claude", "echo '../9.9.9 (Claude Code)'")
    with pytest.raises(CLIStartFailed, match="does not answer like Claude Code"):
        await CapabilityProbe(asking, probed.cache)(newer)
    newer = program(tmp_path / "claude", "echo '9.9.9/../.. (Claude Code)'")
    with pytest.raises(Asked):
        await CapabilityProbe(asking, probed.cache)(newer)


async def test_a_cli_that_could_not_do_all_is_doubted_after_a_day(
    probed: Probed, tmp_path: Path
) -> None:
    (kept,) = probed.cache.iterdir()
    content = json.loads(kept.read_text())
    content["capabilities"]["seed"] = False
    path = tmp_path / kept.name
    path.write_text(json.dumps(content))
    assert await CapabilityProbe(asking, tmp_path)(find_cli()) == replace(ALL, seed=False)
    yesterday = path.stat().st_mtime - 25 * 3600
    os.utime(path, (yesterday, yesterday))
    with pytest.raises(Asked):
        await CapabilityProbe(asking, tmp_path)(find_cli())
    # What was seen to work once is not forgotten.
    os.utime(kept, (yesterday, yesterday))
    assert await CapabilityProbe(asking, probed.cache)(find_cli()) == ALL


async def test_a_process_asks_once_for_each_executable(probed: Probed, tmp_path: Path) -> None:
    log = tmp_path / "log"
    real = shlex.quote(str(find_cli().path))
    cli = program(tmp_path / "claude", f'echo $1 >> {log}; exec {real} "$@"')
    probe = CapabilityProbe(asking, probed.cache)
    assert await asyncio.gather(*(probe(cli) for _ in range(5))) == [ALL] * 5
    assert log.read_text() == "--version\n"
    program(cli.path, f'echo again $1 >> {log}; exec {real} "$@"')
    assert await probe(cli) == ALL
    assert log.read_text() == "--version\nagain --version\n"


async def test_several_at_once_share_a_run_or_do_each_other_no_harm(tmp_path: Path) -> None:
    made: list[OfflineModel] = []

    def make_model() -> OfflineModel:
        made.append(OfflineModel())
        return made[-1]

    cache = tmp_path / "cache"
    mine, other = CapabilityProbe(make_model, cache), CapabilityProbe(make_model, cache)
    found = await asyncio.gather(*(probe(find_cli()) for probe in (mine, mine, other)))
    assert found == [ALL] * 3
    assert len(made) == 2
    assert len(list(cache.iterdir())) == 1
    assert await CapabilityProbe(asking, cache)(find_cli()) == ALL


async def test_it_answers_also_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    probe = CapabilityProbe(OfflineModel, tmp_path / "file" / "cache")
    assert await probe(find_cli()) == ALL
    assert list(look(tmp_path)) == [str(tmp_path / "file")]


async def test_no_port_for_the_model_is_an_error_too(tmp_path: Path) -> None:
    with OfflineModel() as running:
        port = int(running.url.rpartition(":")[2])
        probe = CapabilityProbe(lambda: OfflineModel(port=port), tmp_path / "cache")
        with pytest.raises(CLIStartFailed, match="Address already in use"):
            await probe(find_cli())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["exit 3"], "exit code 3"),
        (["echo hello"], "does not answer like Claude Code"),
        (['[ "$1" = --version ] && echo 9.9.9 && exit', "echo no room >&2; exit 3"], "no room"),
        (
            ['[ "$1" = --version ] && echo 9.9.9 && exit', "exec cat > /dev/null"],
            "within 1 seconds",
        ),
    ],
    ids=["broken", "something else", "does not start", "hangs"],
)
async def test_a_cli_that_does_not_run_is_an_error_and_nothing_is_kept(
    lines: list[str], said: str, tmp_path: Path
) -> None:
    probe = CapabilityProbe(OfflineModel, tmp_path / "cache", patience=1.0)
    with pytest.raises(CLIStartFailed, match=said):
        await probe(program(tmp_path / "claude", *lines))
    with pytest.raises(CLIStartFailed, match="cannot be run: No such file"):
        await probe(CLI(tmp_path / "nothing", "configured"))
    assert not (tmp_path / "cache").exists()


async def test_nothing_is_left_of_a_probe_that_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    models: list[OfflineModel] = []

    def make_model() -> OfflineModel:
        models.append(OfflineModel())
        return models[-1]

    probe = CapabilityProbe(make_model, tmp_path / "cache")
    probing = asyncio.create_task(probe(find_cli()))
    await eventually(lambda: models and models[0].requests)
    (home,) = (tmp_path / "tmp").glob("ccapi-probe-*")
    (process,) = clis(home)
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    await gone(process)
    assert not any((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "cache").exists()


def test_every_capability_is_told_to_people() -> None:
    assert [fact.name for fact in FACTS] == list(NAMES)
    assert len({fact.what for fact in FACTS}) == len(FACTS)


# What is done without each, on the real CLI and through the public face.


@pytest.mark.parametrize(
    "able",
    [
        ALL,
        replace(ALL, bind_at_initialize=False),
        replace(ALL, seed=False),
        replace(ALL, rewind_conversation=False),
        PUBLIC,
    ],
    ids=["all", "no prompt at initialize", "no seed", "no rewind", "none"],
)
async def test_the_model_is_sent_the_same_whatever_the_cli_can_do(
    able: Capabilities, make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(able=able, warm=True, spares=1)
    chat = replace(chat, system_prompt="You are a pirate.")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    edited = talk("I am Bob.", "Ahoy Bob.")

    async def ask(prompt: str, options: Options, *history: Message) -> str:
        turn = query(pool, prompt, options, history=history)
        assert (await turn.finish()).reason == "completed"
        request = next(r for r in model.main_requests if r.user_text == prompt)
        assert messages_sent(request) == as_sent(*history, Message("user", prompt))
        assert "You are a pirate." in request.system_text
        assert ("StructuredOutput" in request.tools) == (options.schema is not None)
        assert turn.warmth is not None
        return turn.warmth

    await ask("I am Ann. [[say Ahoy Ann.]]", chat)
    await eventually(lambda: pool.capabilities == able)
    warmths = {
        "followed": await ask("Who am I?", chat, *talk("I am Ann. [[say Ahoy Ann.]]", "Ahoy Ann.")),
        "edited": await ask("And who am I?", chat, *edited),
        "new": await ask("Who are you?", chat),
        "schema": await ask("Which ships?", replace(chat, schema=schema), *edited),
    }
    assert warmths["followed"] == "live"
    if not able.bind_at_initialize:
        assert "spare" not in warmths.values()
    if not able.seed:
        assert warmths["edited"] == warmths["schema"] == "cold"
    if not able.rewind_conversation:
        assert "recycled" not in warmths.values()
    if able == PUBLIC:
        assert set(warmths.values()) <= {"live", "bound", "cold"}


@pytest.mark.parametrize("name", ["bind_at_initialize", "schema_at_initialize"])
async def test_what_does_not_bind_at_initialize_is_bound_ahead_by_flags(
    name: str, make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(able=replace(ALL, **{name: False}), warm=True, spares=2)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    options = replace(chat, system_prompt="You are a pirate.", schema=schema)
    await query(pool, "First", options, owner="ann").finish()
    await spare_for(pool, "ann", "You are a pirate.")
    turn = query(pool, "Second", options, owner="ann")
    await turn.finish()
    assert turn.warmth == "bound"
    request = next(r for r in model.main_requests if r.user_text == "Second")
    assert messages_sent(request) == as_sent(Message("user", "Second"))
    assert request.system_text.endswith("You are a pirate.")
    assert "StructuredOutput" in request.tools


async def test_a_pool_takes_up_what_the_probe_has_found(
    probed: Probed, model: OfflineModel, home: Path, chat: Options
) -> None:
    pool = Pool(environment=model.environment(home), probe=CapabilityProbe(asking, probed.cache))
    try:
        await Conversation(pool, chat).send("One").finish()
        await eventually(lambda: pool.capabilities == ALL)
    finally:
        await pool.close()
