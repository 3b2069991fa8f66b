"""Histories: earlier turns reach the model as turns, and leave nothing behind."""

import stat
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import Conversation, Message, Options, Pool, TextDelta, query
from jupyter_ccapi.claude.errors import CLIStartFailed
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    asked,
    clis,
    conversation_sent,
    gone,
    held,
    stand_in,
    transcripts,
    until,
)

HISTORY = [Message("user", "I am Ann."), Message("assistant", "Hi Ann.")]


async def test_it_reaches_the_model_as_turns_and_leaves_nothing(
    pool: Pool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    model.script(held("You are Ann."))
    turn = query(pool, "Who am I?", chat, history=HISTORY)
    await until(turn, TextDelta)
    # Already now: what is killed cannot tidy up.
    assert transcripts(home) == []
    model.release()
    assert (await turn.finish()).text == "You are Ann."
    await pool.close()
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "I am Ann."),
        ("assistant", "Hi Ann."),
        ("user", "Who am I?"),
    ]
    assert transcripts(home) == []
    assert not any((tmp_path / "tmp").iterdir())


async def test_blocks_reach_the_model_as_blocks(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {"zone": "utc"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}
    history = [
        Message("user", [{"type": "text", "text": "What time is it?"}]),
        Message("assistant", [{"type": "text", "text": "I look."}, use]),
        Message("user", [result]),
        Message("assistant", "Noon."),
    ]
    await query(pool, "Thanks.", chat, history=history).finish()
    request = model.main_requests[-1]
    assert conversation_sent(request) == [
        ("user", "What time is it?"),
        ("assistant", "I look.\ntool_use"),
        ("user", "tool_result"),
        ("assistant", "Noon."),
        ("user", "Thanks."),
    ]
    sent = [entry for entry in request.messages if entry["role"] != "system"]
    assert sent[1]["content"][1] == use
    assert {**sent[2]["content"][0], **result} == sent[2]["content"][0]


@pytest.mark.parametrize(
    "history",
    [
        [Message("user", "one"), Message("user", "two"), Message("assistant", "three")],
        [Message("assistant", "one")],
        [Message("user", "one")],
        [Message("user", "one"), Message("assistant", "")],
    ],
    ids=["two users", "assistant first", "unanswered", "empty answer"],
)
async def test_an_odd_one_is_answered_too(
    pool: Pool, model: OfflineModel, chat: Options, history: list[Message]
) -> None:
    model.script(Reply("fine"))
    assert (await query(pool, "and now", chat, history=history).finish()).text == "fine"
    sent = conversation_sent(model.main_requests[-1])
    assert sent[-1][0] == "user"
    assert sent[-1][1].endswith("and now")
    said = "\n".join(text for _, text in sent)
    assert all(message.content in said for message in history if isinstance(message.content, str))


async def test_a_conversation_that_began_with_one_outlives_its_process(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat, history=HISTORY)
    model.script(Reply("You are Ann."), Reply("Still Ann."))
    await conversation.send("Who am I?").finish()
    process = psutil.Process(pool.pids()[0])
    process.terminate()
    await gone(process)
    await conversation.send("And now?").finish()
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "I am Ann."),
        ("assistant", "Hi Ann."),
        ("user", "Who am I?"),
        ("assistant", "You are Ann."),
        ("user", "And now?"),
    ]


async def test_a_transcript_is_for_its_owner_alone(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    await Conversation(pool, chat, history=HISTORY).send("Who am I?").finish()
    (transcript,) = transcripts(home)
    assert stat.S_IMODE(transcript.stat().st_mode) == 0o600
    assert stat.S_IMODE(transcript.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("persist", [False, True])
async def test_nothing_is_left_of_it_when_the_cli_does_not_start(
    make_pool: MakePool, tmp_path: Path, home: Path, chat: Options, persist: bool
) -> None:
    pool = make_pool(find=stand_in(tmp_path, "exits"))
    conversation = Conversation(pool, chat, history=HISTORY, persist=persist)
    with pytest.raises(CLIStartFailed):
        await conversation.send("Who am I?").finish()
    assert transcripts(home) == []


async def test_nothing_is_left_of_a_question_that_was_interrupted(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    model.script(held())
    async with query(pool, "Who am I?", chat, history=HISTORY):
        await asked(model, "Who am I?")
    await pool.close()
    assert (transcripts(home), clis(home)) == ([], [])


@pytest.mark.parametrize(
    "folder", ["with space", "ünï-çødé", ".hidden_under.score", "long/" + "/".join(["x" * 60] * 5)]
)
async def test_any_folder_will_do(pool: Pool, model: OfflineModel, home: Path, folder: str) -> None:
    cwd = home / folder
    cwd.mkdir(parents=True)
    options = Options(cwd=cwd)
    await query(pool, "Who am I?", options, history=HISTORY).finish()
    assert len(conversation_sent(model.main_requests[-1])) == 3


async def test_a_link_to_a_folder_will_do(
    pool: Pool, model: OfflineModel, home: Path, chat: Options
) -> None:
    link = home / "link"
    link.symlink_to(home / "project")
    await query(pool, "Who am I?", Options(cwd=link), history=HISTORY).finish()
    assert len(conversation_sent(model.main_requests[-1])) == 3


async def test_without_a_configured_folder_it_lies_in_the_home(
    pool: Pool, model: OfflineModel, home: Path, chat: Options
) -> None:
    del pool.environment["CLAUDE_CONFIG_DIR"]
    await Conversation(pool, chat, history=HISTORY).send("Who am I?").finish()
    assert len(conversation_sent(model.main_requests[-1])) == 3
    assert len(transcripts(home)) == 1


async def test_the_next_turn_of_a_conversation_that_is_not_kept_begins_with_it_again(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    conversation = Conversation(pool, chat, history=HISTORY, persist=False)
    for prompt in ("Who am I?", "Who are you?"):
        await conversation.send(prompt).finish()
        sent: Any = conversation_sent(model.main_requests[-1])
        assert sent == [("user", "I am Ann."), ("assistant", "Hi Ann."), ("user", prompt)]
    assert transcripts(home) == []
