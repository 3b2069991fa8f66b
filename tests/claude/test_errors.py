"""Errors: each has its kind, its facts, and a conversation that goes on after it."""

import asyncio
import time
from pathlib import Path

import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Options,
    Pool,
    RateLimit,
    TextDelta,
    TurnStarted,
    find_cli,
    query,
)
from jupyter_ccapi.claude.errors import (
    CLINotFound,
    CLIStartFailed,
    ModelError,
    NotLoggedIn,
    Overloaded,
    RateLimited,
    TurnTimeout,
)
from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import PATIENCE, clis, held, seen, stand_in, until

# A CLI makes up to three attempts at what the API calls a bad request.
ATTEMPTS = 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ModelError),
        (404, ModelError),
        (413, ModelError),
        (429, RateLimited),
        (500, ModelError),
        (503, Overloaded),
        (529, Overloaded),
    ],
)
async def test_what_the_models_api_refuses(
    pool: Pool, model: OfflineModel, chat: Options, status: int, kind: type[ModelError]
) -> None:
    conversation = Conversation(pool, chat)
    model.script(*[Reply(error=ApiError(status, "", "said the API"))] * ATTEMPTS)
    turn = conversation.send("hello")
    with pytest.raises(ModelError) as failure:
        await turn.finish()
    assert type(failure.value) is kind
    assert failure.value.status == status
    # What the CLI says about it is no answer of the model.
    assert isinstance(await anext(turn), TurnStarted)
    with pytest.raises(ModelError):
        await until(turn, TextDelta)
    assert len(str(failure.value)) > 20
    model.clear()
    model.script(Reply("hello again"))
    assert (await conversation.send("hello").finish()).text == "hello again"


async def test_what_a_login_may_not_do_is_no_want_of_a_login(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(*[Reply(error=ApiError(403, "", "not for you"))] * ATTEMPTS)
    with pytest.raises(ModelError, match="not for you") as failure:
        await query(pool, "hello", chat).finish()
    assert failure.value.status == 403


async def test_a_login_that_the_api_refuses(pool: Pool, model: OfflineModel, chat: Options) -> None:
    conversation = Conversation(pool, chat)
    model.script(*[Reply(error=ApiError(401, "", "that key is no good"))] * ATTEMPTS)
    with pytest.raises(NotLoggedIn, match=r"that key is no good\).*ANTHROPIC_API_KEY"):
        await conversation.send("hello").finish()
    model.clear()
    model.script(Reply("hello again"))
    assert (await conversation.send("hello").finish()).text == "hello again"


async def test_no_login_and_no_key(make_pool: MakePool, model: OfflineModel, chat: Options) -> None:
    pool = make_pool(environment={"ANTHROPIC_API_KEY": ""})
    with pytest.raises(NotLoggedIn, match="is not logged in"):
        await query(pool, "hello", chat).finish()
    assert model.main_requests == []


async def test_a_rate_limit_says_when_it_ends(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    # The CLI tells a subscription's limits, not a key's.
    login = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-offline"}
    pool = make_pool(environment=login)
    unified = "anthropic-ratelimit-unified"
    limit = {f"{unified}-status": "allowed", f"{unified}-representative-claim": "five_hour"}
    resets_at = int(time.time()) + 600
    conversation = Conversation(pool, chat)
    model.script(Reply("fine", headers={**limit, f"{unified}-reset": str(resets_at + 9000)}))
    allowed = await until(turn := conversation.send("hello"), RateLimit)
    await turn.finish()
    assert (allowed.status, allowed.kind) == ("allowed", "five_hour")
    assert allowed.resets_at == resets_at + 9000

    rejected = {**limit, f"{unified}-status": "rejected", f"{unified}-reset": str(resets_at)}
    model.script(Reply(error=ApiError(429), headers=rejected))
    with pytest.raises(RateLimited) as failure:
        await conversation.send("hello").finish()
    assert failure.value.retry_after == pytest.approx(resets_at - time.time(), abs=PATIENCE)

    # A limit of another kind says nothing about when it ends.
    model.script(Reply(error=ApiError(429)))
    with pytest.raises(RateLimited) as failure:
        await conversation.send("hello").finish()
    assert failure.value.retry_after is None


async def test_a_model_that_cannot_be_reached(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(environment={"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"})
    with pytest.raises(ModelError) as failure:
        await query(pool, "hello", chat).finish()
    assert failure.value.status is None


async def test_a_cli_that_is_not_there(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(find=lambda: find_cli(tmp_path / "nowhere" / "claude"))
    conversation = Conversation(pool)
    for _ in range(2):
        with pytest.raises(CLINotFound, match="nowhere"):
            await conversation.send("hello").finish()
    assert pool.count("busy") == 0


async def test_a_cli_that_is_no_program(make_pool: MakePool, tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_bytes(b"\x7fnothing that runs")
    program.chmod(0o755)
    pool = make_pool(find=lambda: find_cli(program))
    with pytest.raises(CLIStartFailed, match="Exec format error"):
        await query(pool, "hello").finish()


async def test_a_cli_that_exits_at_once_is_not_waited_for(
    make_pool: MakePool, tmp_path: Path
) -> None:
    now = ["exits"]
    pool = make_pool(find=lambda: stand_in(tmp_path, now[0])(), start_timeout=600)
    conversation = Conversation(pool)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(CLIStartFailed, match="there is no room here") as failure:
            await conversation.send("hello").finish()
    assert failure.value.exit_code == 3
    assert failure.value.stderr == "stand-in: there is no room here"
    now[0] = "none"
    assert (await conversation.send("hello").finish()).text == "word"


async def test_a_cli_that_prints_garbage(make_pool: MakePool, tmp_path: Path, home: Path) -> None:
    pool = make_pool(find=stand_in(tmp_path, "garbage"), start_timeout=600)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(CLIStartFailed, match="not JSON"):
            await query(pool, "hello").finish()


async def test_a_cli_that_never_answers(make_pool: MakePool, tmp_path: Path, home: Path) -> None:
    pool = make_pool(find=stand_in(tmp_path, "silent"), start_timeout=1)
    turn = query(pool, "hello")
    with pytest.raises(CLIStartFailed, match="within 1 seconds") as failure:
        await turn.finish()
    assert failure.value.stderr == "stand-in: thinking"
    assert clis(home) == []


async def test_an_unknown_flag_is_a_failed_start(pool: Pool, chat: Options) -> None:
    options = Options(cwd=chat.cwd, sdk={"extra_args": {"no-such-flag": None}})
    with pytest.raises(CLIStartFailed, match="no-such-flag"):
        await query(pool, "hello", options).finish()


async def test_a_turn_that_takes_too_long_is_interrupted(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(turn_timeout=3.0)
    conversation = Conversation(pool, chat)
    model.script(held())
    turn = conversation.send("hello")
    assert (await until(turn, TextDelta)).text == "one "
    with pytest.raises(TurnTimeout, match="3 seconds"):
        await turn.finish()
    await seen(model, lambda request: request.closed_early)
    model.script(Reply("hello again"))
    assert (await conversation.send("hello").finish()).text == "hello again"


async def test_a_cli_that_goes_on_past_the_time_is_killed(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_ccapi.claude.stopping._INTERRUPT_PAUSES", (0.1, 0.1))
    pool = make_pool(find=stand_in(tmp_path, "stubborn"), turn_timeout=0.2)
    with pytest.raises(TurnTimeout):
        await Conversation(pool).send("hello").finish()


async def test_what_nobody_foresaw_is_an_error_of_ours_and_logged(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oh")

    from jupyter_ccapi.claude.errors import TurnFailed

    pool = make_pool(find=broken)
    with pytest.raises(TurnFailed, match="the log of the server or kernel"):
        await query(pool, "hello").finish()
    assert "ZeroDivisionError: oh" in caplog.text
