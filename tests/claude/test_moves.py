"""Conversations whose options are replaced between turns: what their process is bound to moves them
to another one, which the model cannot tell.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import Capabilities, Conversation, Message, Options, Pool, TextDelta, Tool
from jupyter_ccapi.claude.capabilities import PUBLIC
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import ALL, MakePool
from tests.claude.support import (
    as_sent,
    asked,
    conversation_sent,
    eventually,
    gone,
    held,
    messages_sent,
    spare_for,
    spoken,
    talk,
    until,
)

PIRATE = "Speak like a pirate."
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["calm"]}},
    "required": ["mood"],
}


async def tell_time(given: dict[str, Any]) -> str:
    return "noon"


CLOCK = Tool("clock", "Tells the time.", {"type": "object", "properties": {}}, tell_time)

WAYS = {
    "to a spare": {"warm": True, "spares": 2},
    "warm, without a spare": {"warm": True, "spares": 0},
    "by public means": {"warm": True, "spares": 2, "able": PUBLIC},
    "without warmth": {"warm": False},
}


FEW = {name: WAYS[name] for name in ("to a spare", "without warmth")}


async def ready(pool: Pool, able: Capabilities = ALL) -> None:
    """Wait until the pool can do what it may: knows what its CLI can, and has a spare for what it
    does not know yet.
    """
    if pool.limits.warm:
        await eventually(lambda: pool.capabilities == able)
        if pool.limits.spares:
            await spare_for(pool, None if able == ALL else "")


def able(limits: dict[str, Any]) -> Capabilities:
    """What the CLI of such a pool can do."""
    found: Capabilities = limits.get("able", ALL)
    return found


async def killed(pool: Pool) -> None:
    """Have every process of the pool end at once."""
    processes = [psutil.Process(pid) for pid in pool.pids()]
    for process in processes:
        process.kill()
    await gone(*processes)


@pytest.mark.parametrize("limits", WAYS.values(), ids=WAYS)
async def test_the_system_prompt_is_changed_back_and_forth(
    make_pool: MakePool, model: OfflineModel, chat: Options, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, chat)
    name = conversation.id
    history: list[Message] = []
    warmths = []
    for number, prompt in enumerate([None, PIRATE, "Be kind.", PIRATE, PIRATE]):
        conversation.options = replace(chat, system_prompt=prompt)
        model.script(Reply(f"answer {number}"))
        turn = conversation.send(f"question {number}")
        assert (await turn.finish()).text == f"answer {number}"
        warmths.append(turn.warmth)
        request = model.main_requests[-1]
        assert messages_sent(request) == as_sent(*history, Message("user", f"question {number}"))
        assert (PIRATE in request.system_text) == (prompt == PIRATE)
        assert ("Be kind." in request.system_text) == (prompt == "Be kind.")
        history += talk(f"question {number}", f"answer {number}")
        await ready(pool, able(limits))
    assert conversation.id == name
    assert conversation.turns == len(model.main_requests) == 5
    first, *moved, last = warmths
    assert first == "cold"
    assert set(moved) <= ({"spare", "bound"} if limits == WAYS["to a spare"] else {"cold"})
    assert last == ("live" if limits["warm"] else "cold")
    # Nothing is left of the processes that it moved out of.
    await eventually(lambda: pool.count("closing") == 0)
    assert pool.count("idle") == limits["warm"]


@pytest.mark.parametrize("limits", WAYS.values(), ids=WAYS)
async def test_tools_and_schema_come_and_go(
    make_pool: MakePool, model: OfflineModel, chat: Options, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, chat)
    model.script(
        Reply("Hi Ann."),
        Reply("I look.", tools=[("mcp__client__clock", {})]),
        Reply("Noon."),
        Reply(tools=[("StructuredOutput", {"mood": "calm"})]),
    )
    await conversation.send("I am Ann.").finish()
    assert model.main_requests[-1].tools == []
    await ready(pool, able(limits))

    conversation.options = replace(chat, tools=(CLOCK,))
    assert (await conversation.send("What time is it?").finish()).text.endswith("Noon.")
    assert model.main_requests[-2].tools == ["mcp__client__clock"]
    sent = messages_sent(model.main_requests[-1])
    assert sent[:3] == as_sent(*talk("I am Ann.", "Hi Ann.", "What time is it?"))
    assert [block["type"] for block in sent[3][1]] == ["text", "tool_use"]
    assert [block["type"] for block in sent[4][1]] == ["tool_result"]
    await ready(pool, able(limits))

    conversation.options = replace(chat, schema=SCHEMA)
    end = await conversation.send("Your mood?").finish()
    assert end.structured_output == {"mood": "calm"}
    (request,) = [r for r in model.main_requests if r.user_text == "Your mood?"][:1]
    assert request.tools == ["StructuredOutput"]
    history = [*sent, ("assistant", [{"type": "text", "text": "Noon."}])]
    assert messages_sent(request)[:6] == history
    await ready(pool, able(limits))

    conversation.options = chat
    model.script(Reply("Bye."))
    await conversation.send("Bye.").finish()
    assert model.main_requests[-1].tools == []
    assert messages_sent(model.main_requests[-1])[:6] == history
    calls = str(messages_sent(model.main_requests[-1])[6:])
    assert "Your mood?" in calls
    assert "mood" in calls
    assert "calm" in calls


@pytest.mark.parametrize("limits", WAYS.values(), ids=WAYS)
async def test_a_conversation_that_has_moved_comes_back_with_everything(
    make_pool: MakePool, model: OfflineModel, chat: Options, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, chat, history=talk("zero", "0"))
    model.script(*(Reply(str(number)) for number in range(1, 7)))
    await conversation.send("one").finish()
    await ready(pool, able(limits))
    conversation.options = replace(chat, system_prompt=PIRATE)
    await conversation.send("two").finish()
    await killed(pool)
    await conversation.send("three").finish()
    history = talk("zero", "0", "one", "1", "two", "2", "three")
    assert messages_sent(model.main_requests[-1]) == as_sent(*history)
    assert PIRATE in model.main_requests[-1].system_text

    # After a turn that did not end well the CLI's transcript alone knows what there was.
    model.clear()
    model.script(held("partly said"), Reply("5"))
    turn = conversation.send("four")
    await until(turn, TextDelta)
    await turn.interrupt()
    await killed(pool)
    await conversation.send("five").finish()
    sent = conversation_sent(model.main_requests[-1])
    assert sent[:7] == spoken(*history)
    assert sent[-1][1].endswith("five")
    assert PIRATE in model.main_requests[-1].system_text


@pytest.mark.parametrize("limits", FEW.values(), ids=FEW)
async def test_a_move_after_an_interrupted_turn_carries_what_was_said_until_then(
    make_pool: MakePool, model: OfflineModel, chat: Options, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, chat)
    model.script(Reply("1"), held("partly said"), Reply("3"), Reply("4"))
    await conversation.send("one").finish()
    turn = conversation.send("two")
    await until(turn, TextDelta)
    await turn.interrupt()
    await ready(pool, able(limits))
    conversation.options = replace(chat, system_prompt=PIRATE)
    assert (await conversation.send("three").finish()).text == "3"
    sent = conversation_sent(model.main_requests[-1])
    assert sent[:4] == [
        ("user", "one"),
        ("assistant", "1"),
        ("user", "two"),
        ("assistant", "partly"),
    ]
    assert sent[-1][1].endswith("three")
    assert PIRATE in model.main_requests[-1].system_text
    # And once more, from there.
    await ready(pool, able(limits))
    conversation.options = chat
    await conversation.send("four").finish()
    assert conversation_sent(model.main_requests[-1])[: len(sent)] == sent
    assert PIRATE not in model.main_requests[-1].system_text


async def test_what_a_spare_was_tried_with_is_no_part_of_the_conversation(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    model.script(*(Reply(str(number)) for number in range(1, 6)))
    first = Conversation(pool, chat)
    await first.send("one").finish()
    await spare_for(pool, "")
    second = Conversation(pool, chat)
    turn = second.send("two")
    await turn.finish()
    assert turn.warmth == "bound"
    await killed(pool)
    await second.send("three").finish()
    assert messages_sent(model.main_requests[-1]) == as_sent(*talk("two", "2", "three"))
    model.script(held())
    turn = second.send("four")
    await asked(model, "four")
    await turn.interrupt()
    await killed(pool)
    await second.send("five").finish()
    said = str(messages_sent(model.main_requests[-1]))
    assert "Hello" not in said
    assert "'two'" in said


@pytest.mark.parametrize("limits", WAYS.values(), ids=WAYS)
async def test_the_model_is_changed_and_nothing_else(
    make_pool: MakePool, model: OfflineModel, chat: Options, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, chat)
    model.script(*(Reply(str(number)) for number in range(1, 5)))
    await conversation.send("one").finish()
    pids = pool.pids()
    await ready(pool, able(limits))
    conversation.set_model("claude-haiku-4-5-20251001")
    await conversation.send("two").finish()
    conversation.options = replace(conversation.options, model=None)
    await conversation.send("three").finish()
    if limits["warm"] and "able" not in limits:
        # All that in one process.
        assert set(pids) <= set(pool.pids())
    await killed(pool)
    await conversation.send("four").finish()
    default, haiku, *again = [request.body["model"] for request in model.main_requests]
    assert haiku == "claude-haiku-4-5-20251001"
    assert again == [default, default] != [haiku, haiku]
    history = talk("one", "1", "two", "2", "three", "3", "four")
    for number, request in enumerate(model.main_requests):
        assert conversation_sent(request) == spoken(*history[: 2 * number + 1])


async def test_a_session_that_is_resumed_does_not_go_on_with_its_last_model(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool()
    conversation = Conversation(pool, replace(chat, model="claude-haiku-4-5-20251001"))
    model.script(Reply("1"), held(), Reply("3"))
    await conversation.send("one").finish()
    turn = conversation.send("two")
    await until(turn, TextDelta)
    # Now the CLI's transcript alone knows what there was.
    await turn.interrupt()
    await killed(pool)
    conversation.set_model(None)
    await conversation.send("three").finish()
    assert ["haiku" in request.body["model"] for request in model.main_requests] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("limits", FEW.values(), ids=FEW)
async def test_a_turn_has_the_options_with_which_it_was_sent(
    make_pool: MakePool, model: OfflineModel, chat: Options, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, replace(chat, system_prompt="Be kind."))
    model.script(held("1"), Reply("2"), Reply("3"))
    turns = [conversation.send("one")]
    conversation.options = replace(chat, system_prompt=PIRATE)
    turns.append(conversation.send("two"))
    conversation.options = replace(chat, tools=(CLOCK,))
    turns.append(conversation.send("three"))
    conversation.options = chat
    await asked(model, "one")
    model.release()
    assert [(await turn.finish()).text for turn in turns] == ["1", "2", "3"]
    one, two, three = model.main_requests
    assert one.system_text.endswith("Be kind.")
    assert two.system_text.endswith(PIRATE)
    assert PIRATE not in three.system_text
    assert three.tools == ["mcp__client__clock"]
    assert messages_sent(three) == as_sent(*talk("one", "1", "two", "2", "three"))


@pytest.mark.parametrize("limits", FEW.values(), ids=FEW)
@pytest.mark.parametrize("interrupted", [False, True], ids=["", "after an interrupted turn"])
async def test_folder_and_mode_are_changed_too(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    limits: dict[str, Any],
    interrupted: bool,
) -> None:
    pool = make_pool(**limits)
    conversation = Conversation(pool, chat)
    model.script(Reply("1"))
    await conversation.send("one").finish()
    if interrupted:
        model.script(held())
        turn = conversation.send("two")
        await until(turn, TextDelta)
        await turn.interrupt()
    sent = spoken(*talk("one", "1"))
    moves: list[dict[str, Any]] = [{"cwd": home}, {"mode": "agent"}, {}]
    for number, changes in enumerate(moves):
        await ready(pool, able(limits))
        conversation.options = replace(chat, **changes)
        model.script(Reply(f"answer {number}"))
        await conversation.send(f"question {number}").finish()
        request = model.main_requests[-1]
        assert ("Bash" in request.tools) == ("mode" in changes)
        before, sent = sent, conversation_sent(request)
        assert sent[: len(before)] == before
        assert sent[-1][1].endswith(f"question {number}")


async def test_turns_in_a_row_with_other_options_and_a_kill_in_between_lose_nothing(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    conversation = Conversation(pool, chat)
    variants = [chat, replace(chat, system_prompt=PIRATE), replace(chat, tools=(CLOCK,))]
    history: list[Message] = []
    for number in range(7):
        conversation.options = variants[number % 3]
        model.script(Reply(f"answer {number}"))
        await conversation.send(f"question {number}").finish()
        history += talk(f"question {number}", f"answer {number}")
        if number in (2, 4):
            await killed(pool)
    assert messages_sent(model.main_requests[-1]) == as_sent(*history[:-1])
    assert len(model.main_requests) == 7
