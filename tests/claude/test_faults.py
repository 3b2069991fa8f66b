"""Processes that die, hang or leave something behind."""

import asyncio
import signal
from pathlib import Path

import psutil
import pytest

from jupyter_ccapi.claude import Conversation, Options, Pool, TextDelta, ToolCall, TurnStarted
from jupyter_ccapi.claude.errors import CLIStartFailed, ProcessDied
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    FOREVER,
    cli_starting,
    clis,
    conversation_sent,
    eventually,
    gone,
    held,
    named,
    stand_in,
    started,
    transcripts,
    until,
)


async def test_killed_in_the_middle_of_a_turn(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(Reply("first answer"), held())
    await conversation.send("first").finish()
    turn = conversation.send("second")
    await until(turn, TextDelta)
    psutil.Process(pool.pids()[0]).kill()
    with pytest.raises(ProcessDied) as failure:
        await turn.finish()
    assert failure.value.exit_code == -signal.SIGKILL
    model.script(Reply("third answer"))
    assert (await conversation.send("third").finish()).text == "third answer"
    sent = conversation_sent(model.main_requests[-1])
    assert sent[:2] == [("user", "first"), ("assistant", "first answer")]
    # What the model had been asked is not lost.
    said = [text for role, text in sent[2:] if role == "user"]
    assert "second" in said[0]
    assert said[-1].endswith("third")


async def test_killed_while_idle(pool: Pool, model: OfflineModel, chat: Options) -> None:
    conversation = Conversation(pool, chat)
    model.script(Reply("first answer"), Reply("second answer"))
    await conversation.send("first").finish()
    process = psutil.Process(pool.pids()[0])
    process.kill()
    await gone(process)
    assert (await conversation.send("second").finish()).text == "second answer"
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "first"),
        ("assistant", "first answer"),
        ("user", "second"),
    ]


@pytest.mark.parametrize("model_too", [False, True])
async def test_killed_in_the_moment_of_the_next_prompt(
    pool: Pool, model: OfflineModel, chat: Options, model_too: bool
) -> None:
    conversation = Conversation(pool, chat)
    model.script(Reply("first answer"), Reply("second answer"))
    await conversation.send("first").finish()
    if model_too:
        conversation.set_model("haiku")
    psutil.Process(pool.pids()[0]).kill()
    assert (await conversation.send("second").finish()).text == "second answer"
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "first"),
        ("assistant", "first answer"),
        ("user", "second"),
    ]
    assert ("haiku" in model.main_requests[-1].body["model"]) == model_too


async def test_killed_while_it_starts(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    conversation = Conversation(pool, chat)
    turn = conversation.send("hello")
    (await cli_starting(home)).kill()
    with pytest.raises(CLIStartFailed) as failure:
        await turn.finish()
    assert failure.value.exit_code == -signal.SIGKILL
    model.script(Reply("hello"))
    assert (await conversation.send("hello").finish()).text == "hello"


async def test_killed_before_there_is_a_transcript(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(held())
    turn = conversation.send("first")
    await until(turn, TurnStarted)
    psutil.Process(pool.pids()[0]).kill()
    with pytest.raises(ProcessDied):
        await turn.finish()
    model.clear()
    model.script(Reply("fine"))
    assert (await conversation.send("second").finish()).text == "fine"
    assert conversation_sent(model.main_requests[-1])[-1][1].endswith("second")


async def test_a_conversation_that_ended_well_needs_no_transcript(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    conversation = Conversation(pool, chat)
    model.script(Reply("fine"))
    await conversation.send("first").finish()
    process = psutil.Process(pool.pids()[0])
    process.kill()
    await gone(process)
    transcripts(home)[0].unlink()
    await conversation.send("second").finish()
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "first"),
        ("assistant", "fine"),
        ("user", "second"),
    ]


async def test_a_transcript_that_alone_knew_and_is_gone_is_said_and_not_passed_over(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    conversation = Conversation(pool, chat)
    await conversation.send("first").finish()
    model.script(held())
    turn = conversation.send("then")
    await until(turn, TextDelta)
    await turn.interrupt()
    process = psutil.Process(pool.pids()[0])
    process.kill()
    await gone(process)
    transcripts(home)[0].unlink()
    with pytest.raises(CLIStartFailed, match="No conversation found"):
        await conversation.send("second").finish()


async def test_the_commands_of_a_cli_that_was_killed_are_ended(
    pool: Pool, model: OfflineModel, agent: Options, home: Path
) -> None:
    conversation = Conversation(pool, agent)
    model.script(Reply(tools=[("Bash", {"command": FOREVER})]))
    turn = conversation.send("wait")
    await until(turn, ToolCall)
    await eventually(lambda: named(home, "perl"))
    family = clis(home)
    psutil.Process(pool.pids()[0]).kill()
    await gone(*family)
    with pytest.raises(ProcessDied):
        await turn.finish()


async def test_a_cli_whose_child_holds_its_pipes_is_not_waited_for(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(find=stand_in(tmp_path, "leaves a child"))
    turn = Conversation(pool).send("hello")
    async with asyncio.timeout(30):
        with pytest.raises(ProcessDied) as failure:
            await turn.finish()
        assert failure.value.exit_code == -signal.SIGKILL
        await pool.close()


async def test_a_cli_that_does_not_want_to_end_is_ended(
    make_pool: MakePool, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_ccapi.claude.transport._EXIT_GRACE", 0.3)
    pool = make_pool(find=stand_in(tmp_path, "immortal"))
    await Conversation(pool).send("hello").finish()
    assert len(started(home)) == 1
    await pool.close()
    assert clis(home) == []


async def test_a_reaper_that_was_killed_is_replaced(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    def reapers() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [child for child in children if "_reaper.py" in " ".join(child.cmdline())]

    first, second = Conversation(pool, chat), Conversation(pool, chat)
    await first.send("hello").finish()
    (reaper,) = reapers()
    reaper.kill()
    reaper.wait(30)
    await second.send("hello").finish()
    assert len(reapers()) == 1
    await first.send("hello").finish()
    await pool.close()
    assert reapers() == []
