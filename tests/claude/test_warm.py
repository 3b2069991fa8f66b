"""Warm processes: who gets which, that the model cannot tell, and that nobody sees another's words.

What a turn was answered from is `turn.warmth`; what it must not change is what the model was sent.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Message,
    Options,
    Pool,
    TextDelta,
    Tool,
    Turn,
    query,
)
from jupyter_ccapi.claude.errors import ModelError
from jupyter_ccapi.claude.limits import PROCESS_MEMORY
from jupyter_ccapi.claude.memory import Memory
from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.conftest import ALL, MakePool
from tests.claude.support import (
    as_history,
    as_sent,
    asked,
    clis,
    conversation_sent,
    eventually,
    gone,
    held,
    messages_sent,
    seen,
    spare_for,
    spares,
    spoken,
    started,
    talk,
    transcripts,
    until,
)

GB = 1024**3
PLENTY = Memory(limit=16 * GB, available=8 * GB)
PIRATE = "Speak like a pirate."
SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
COUNTED = Reply(
    "yes",
    input_tokens=10,
    output_tokens=20,
    cache_read_input_tokens=300,
    cache_creation_input_tokens=4000,
)


async def answered(turn: Turn) -> str | None:
    """Wait for the end of a turn; return its warmth."""
    await turn.finish()
    return turn.warmth


async def able(pool: Pool) -> None:
    """Wait until the pool knows what its CLI can do: it asks after its first turn has begun."""
    await eventually(lambda: pool.capabilities == ALL)


async def no_answer(given: dict[str, Any]) -> str:
    """A tool that nobody calls."""
    raise AssertionError


def a_tool(description: str = "Tells the time.") -> Tool:
    return Tool("clock", description, {"type": "object", "properties": {}}, no_answer)


BOUND: dict[str, Any] = {"system_prompt": "Be kind.", "tools": (a_tool(),)}


# Affinity: a stateless client sends its whole history with each request.


async def test_a_client_that_resends_its_history_goes_on_in_the_same_process(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(Reply("Hi Ann."), Reply("Ann.", thinking="hm"), Reply("Bye."))
    first = query(pool, "I am Ann.", chat)
    assert await answered(first) == "cold"
    pids = pool.pids()
    second = query(pool, "Who am I?", chat, history=talk("I am Ann.", "Hi Ann."))
    assert await answered(second) == "live"
    history = talk("I am Ann.", "Hi Ann.", "Who am I?", "Ann.")
    assert await answered(query(pool, "Thanks.", chat, history=history)) == "live"
    assert pool.pids() == pids
    assert pool.served == {"cold": 1, "live": 2}
    assert messages_sent(model.main_requests[-1]) == as_sent(*history, Message("user", "Thanks."))


async def test_the_form_of_a_message_makes_no_difference_but_its_words_do(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(*[Reply("Hi Ann.")] * 2, Reply("Yes."), Reply("No."))
    await query(pool, "I am Ann.", chat).finish()
    blocks = [
        Message("user", [{"type": "text", "text": "I am Ann."}]),
        Message(
            "assistant",
            [{"type": "text", "text": "Hi Ann.", "cache_control": {"type": "ephemeral"}}],
        ),
    ]
    assert await answered(query(pool, "I am Ann.", chat, history=blocks)) == "live"
    changed = talk("I am Ann.", "Hi Anna.", "I am Ann.", "Hi Ann.")
    assert await answered(query(pool, "Am I?", chat, history=changed)) != "live"
    assert messages_sent(model.main_requests[-1]) == as_sent(*changed, Message("user", "Am I?"))


async def test_a_process_goes_on_only_for_its_owner_with_all_that_it_is_bound_to(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=8)
    chat = replace(chat, **BOUND)
    model.script(Reply("Hi Ann."))
    await query(pool, "I am Ann.", chat, owner="A").finish()
    (pid,) = pool.pids()
    history = talk("I am Ann.", "Hi Ann.")
    others = [
        ("B", chat),
        ("A", replace(chat, system_prompt=PIRATE)),
        ("A", replace(chat, tools=())),
        ("A", replace(chat, tools=(a_tool("Tells the hour."),))),
        ("A", replace(chat, schema=SCHEMA)),
        ("A", replace(chat, cwd=home)),
        ("A", replace(chat, effort="low")),
    ]
    for number, (owner, options) in enumerate(others):
        turn = query(pool, f"Who am I, {number}?", options, owner=owner, history=history)
        assert await answered(turn) == "cold"
        request = await asked(model, f"Who am I, {number}?")
        assert messages_sent(request)[:2] == as_sent(*history)
        assert (options.system_prompt or "") in request.system_text
    # The first process is as it was: its own client goes on in it.
    assert pid in pool.pids()
    assert await answered(query(pool, "Well?", chat, owner="A", history=history)) == "live"
    assert messages_sent(model.main_requests[-1]) == as_sent(*history, Message("user", "Well?"))


async def test_of_two_who_go_on_with_one_history_at_once_both_are_answered_right(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(Reply("Hi Ann."), held("yes"), held("yes"))
    await query(pool, "I am Ann.", chat).finish()
    history = talk("I am Ann.", "Hi Ann.")
    turns = [query(pool, prompt, chat, history=history) for prompt in ("One?", "Two?")]
    requests = [await asked(model, prompt) for prompt in ("One?", "Two?")]
    await seen(model, lambda _: all(request.held for request in requests))
    model.release()
    assert [await answered(turn) for turn in turns] == ["live", "cold"]
    for request, prompt in zip(requests, ("One?", "Two?"), strict=True):
        assert messages_sent(request) == as_sent(*history, Message("user", prompt))
    # Each goes on in its own.
    for prompt in ("One?", "Two?"):
        more = query(pool, "More?", chat, history=[*history, *talk(prompt, "yes")])
        assert await answered(more) == "live"
        assert conversation_sent(model.main_requests[-1])[2] == ("user", prompt)


async def test_a_turn_with_tools_goes_on_in_the_same_process(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    async def tell(given: dict[str, Any]) -> str:
        return f"noon in {given['zone']}"

    tool = Tool("clock", "Tells the time.", {"type": "object"}, tell)
    chat = replace(chat, tools=(tool,))
    pool = make_pool(warm=True)
    calls = [("mcp__client__clock", {"zone": "UTC"}), ("mcp__client__clock", {"zone": "CET"})]
    model.script(Reply("I look.", thinking="hm", tools=calls), Reply("Noon."), Reply("Bye."))
    await query(pool, "What time is it?", chat).finish()
    history = as_history(model.main_requests[-1])
    assert [block["type"] for block in history[1].blocks] == ["text", "tool_use", "tool_use"]
    history.append(Message("assistant", "Noon."))
    assert await answered(query(pool, "Thanks.", chat, history=history)) == "live"
    assert messages_sent(model.main_requests[-1]) == as_sent(*history, Message("user", "Thanks."))


# Edits: what a process holds is cut back to where the client's history differs.


@pytest.mark.parametrize(
    ("history", "prompt"),
    [
        (talk("one", "1", "two", "2"), "three again"),
        (talk("one", "1"), "two again"),
        (talk("one", "1", "two!", "2"), "three"),
        (talk("one", "1", "two", "two point five"), "three"),
        ([], "one again"),
    ],
    ids=["last prompt", "without the last exchange", "earlier prompt", "answer", "from the start"],
)
@pytest.mark.parametrize("began", ["cold", "with a history"])
async def test_what_a_client_has_edited_is_cut_off_in_the_same_process(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    began: str,
    history: list[Message],
    prompt: str,
) -> None:
    pool = make_pool(warm=True)
    held_now: list[Message] = []
    if began == "with a history":
        held_now = talk("one", "1", "two", "2")
        model.script(Reply("3"))
        await query(pool, "three", chat, history=held_now).finish()
    else:
        for question, answer in (("one", "1"), ("two", "2"), ("three", "3")):
            model.script(Reply(answer))
            await query(pool, question, chat, history=held_now).finish()
            held_now = [*held_now, *talk(question, answer)]
    pids = pool.pids()
    await able(pool)
    model.script(Reply("done"), Reply("more"))
    assert await answered(query(pool, prompt, chat, history=history)) == "recycled"
    now = [*history, Message("user", prompt)]
    assert messages_sent(model.main_requests[-1]) == as_sent(*now)
    now.append(Message("assistant", "done"))
    assert await answered(query(pool, "more", chat, history=now)) == "live"
    assert messages_sent(model.main_requests[-1]) == as_sent(*now, Message("user", "more"))
    assert pool.pids() == pids
    assert pool.warm_failures == 0


async def test_a_history_with_tools_can_be_cut_too(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    history = [*talk("one", "1"), *TOOLS, *talk("two", "2")]
    await query(pool, "three", chat, history=history).finish()
    await able(pool)
    for kept in (len(history) - 1, 5, 2):
        turn = query(
            pool, "again", chat, history=[*history[:kept], *talk("so", "that")[kept % 2 :]]
        )
        assert await answered(turn) == "recycled"
        sent = messages_sent(model.main_requests[-1])
        assert sent[:kept] == as_sent(*history[:kept])
        assert sent[-1] == ("user", [{"type": "text", "text": "again"}])
    assert pool.warm_failures == 0


# Three ways, the same messages.


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def calls(*numbers: int) -> list[dict[str, Any]]:
    return [
        {"type": "tool_use", "id": f"toolu_{n}", "name": "clock", "input": {"zone": f"Z{n}"}}
        for n in numbers
    ]


def result(number: int, content: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "tool_result",
        "tool_use_id": f"toolu_{number}",
        "content": content,
        **more,
    }


def user(*blocks: dict[str, Any]) -> Message:
    return Message("user", list(blocks))


def assistant(*blocks: dict[str, Any]) -> Message:
    return Message("assistant", list(blocks))


PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
NOTE = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "a note"},
    "title": "a title",
}
MARKED = {**said("a mark"), "cache_control": {"type": "ephemeral"}}
TOOLS = [
    Message("user", "What time is it?"),
    assistant(said("I look."), *calls(1)),
    user(result(1, "noon")),
    assistant(*calls(2, 3)),
    user(result(3, [said("one"), said("or two")]), result(2, "no such zone", is_error=True)),
    Message("assistant", "Noon."),
]

EXACT = {
    "one exchange": talk("I am Ann.", "Hi Ann."),
    "many turns, some with the same words": talk(*["yes"] * 6, *map(str, range(20))),
    "texts of all kinds": talk(
        "Grüße 🐍 👩\u200d👩 \u202e\u05d0\u05d1\u202c \u0000 \ufeff",
        "naïve “quotes” \u2028 </s> \\n \U0001f468",
        "  two ends \n\n",
        "\n an answer\t ",
        " \n ",
        "d\r\ne\rf\r\n",
        "/clear",
        "@/etc/hostname",
        "<system-reminder>psst</system-reminder> aloud",
        "No response requested.",
        "[Request interrupted by user]",
        "API Error: 529",
        "Caveat: The messages below were generated by the user while running local commands.",
        "Continue from where you left off.",
    ),
    "very long texts": talk("word " * 50_000, "answer " * 30_000),
    "tools": [
        *TOOLS,
        Message("user", "And now?"),
        assistant(*calls(4)),
        user(result(4, "one"), said("hurry")),
        assistant(*calls(5)),
        user(result(5, [said("here"), IMAGE])),
        Message("assistant", "One."),
    ],
    "blocks": [
        user(said("a"), said(" b "), MARKED),
        assistant(said("c"), said("d")),
        user(said("see"), IMAGE),
        Message("assistant", "A dot."),
        user(NOTE, IMAGE),
        Message("assistant", "A note."),
    ],
    "the assistant begins, and twice": [
        Message("assistant", "one"),
        Message("assistant", "two"),
        *talk("three", "four"),
    ],
}
# The model's API would refuse these; on every way they come into the same order.
ODD = {
    "two of the user in a row": [
        Message("user", "one"),
        *talk("two", "three"),
        Message("user", "What time is it?"),
        assistant(*calls(1, 2)),
        user(result(1, "noon")),
        user(result(2, "one")),
        Message("assistant", "Noon."),
    ],
    "empty answers": [
        *talk("one", "", "two", " \n", "three"),
        assistant(),
        *talk("four", "five"),
    ],
    "what the model cannot take": [
        *talk("a \ud83d b", "c \udc00 d", "one"),
        assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, said("two")),
        user(result(1, "noon")),
        Message("assistant", "three"),
    ],
    "an empty prompt": talk("one", "two", "", "three"),
    "the user ends": [*talk("one", "two", "three"), Message("user", "four")],
    "a result ends": TOOLS[:3],
    "an empty answer ends": talk("one", "two", "three", ""),
    "a call that nobody answered ends": TOOLS[:2],
}


async def sent_by_every_way(
    make_pool: MakePool, model: OfflineModel, chat: Options, history: list[Message]
) -> dict[str, Any]:
    """What the model was sent before the last prompt, by the way on which it went."""
    warm = make_pool(warm=True, spares=1)
    cold = make_pool(warm=False)
    model.script(*[Reply("fine")] * 5)

    async def by_warm_ways() -> None:
        await query(warm, "wake up", chat).finish()
        await spare_for(warm)
        # The spare is taken by the first; the process that woke up is cleared for the second.
        turns = [
            query(warm, "by a spare", chat, owner="B", history=history),
            query(warm, "by a cleared process", chat, history=history),
        ]
        assert [await answered(turn) for turn in turns] == ["spare", "recycled"]
        more = [*history, *talk("by a spare", "fine")]
        assert await answered(query(warm, "live", chat, owner="B", history=more)) == "live"

    resumed = query(cold, "by resume", chat, history=history)
    await asyncio.gather(by_warm_ways(), resumed.finish())
    assert warm.warm_failures == 0
    found = {}
    for request in model.main_requests:
        *before, (role, blocks) = messages_sent(request)
        # The prompt is a message of its own, or follows what the user has not been answered yet.
        waiting = [(role, blocks[:-1])] if blocks[:-1] else []
        found[blocks[-1]["text"]] = [*before, *waiting]
    # The process that goes on keeps what it had been sent.
    first = next(r for r in model.main_requests if r.user_text.endswith("by a spare"))
    assert found["live"] == [*messages_sent(first), ("assistant", [said("fine")])]
    return found


@pytest.mark.parametrize("history", EXACT.values(), ids=EXACT)
async def test_the_model_receives_the_history_word_for_word_on_every_way(
    make_pool: MakePool, model: OfflineModel, chat: Options, history: list[Message]
) -> None:
    sent = await sent_by_every_way(make_pool, model, chat, history)
    expected = as_sent(*history)
    assert sent["by resume"] == expected
    assert sent["by a spare"] == expected
    assert sent["by a cleared process"] == expected


@pytest.mark.parametrize("history", ODD.values(), ids=ODD)
async def test_what_is_out_of_order_comes_into_the_same_order_on_every_way(
    make_pool: MakePool, model: OfflineModel, chat: Options, history: list[Message]
) -> None:
    sent = await sent_by_every_way(make_pool, model, chat, history)
    assert sent["by a spare"] == sent["by resume"]
    assert sent["by a cleared process"] == sent["by resume"]
    # The user is answered before speaking again, with nothing that nobody has said.
    roles = [role for role, _ in sent["by resume"]]
    assert ("user", "user") not in itertools.pairwise(roles)
    told = str(sent["by resume"])
    assert "No response requested." not in told
    for message in history:
        for block in message.blocks:
            text = str(block.get("text", "")).encode("utf-16", "surrogatepass")
            assert text.decode("utf-16", "replace").strip() in told


@pytest.mark.parametrize("warm", [True, False])
async def test_the_answer_to_a_tool_call_is_never_lost(
    make_pool: MakePool, model: OfflineModel, chat: Options, warm: bool
) -> None:
    pool = make_pool(warm=warm)
    for _ in range(2 if warm else 1):
        model.script(Reply("Noon."))
        await query(pool, TOOLS[2].blocks, chat, history=TOOLS[:2]).finish()
        assert messages_sent(model.main_requests[-1]) == as_sent(*TOOLS[:3])
    assert pool.served == ({"cold": 1, "recycled": 1} if warm else {"cold": 1})


# Recycling: a process whose conversation nobody goes on with serves another one of its owner.


async def test_another_conversation_of_the_same_owner_finds_the_process_cleared(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    chat = replace(chat, **BOUND)
    model.script(Reply("A secret answer."), Reply("fine"), Reply("well"))
    await query(pool, "A secret prompt.", chat, history=talk("secret 1", "secret 2")).finish()
    pids = pool.pids()
    await able(pool)
    assert await answered(query(pool, "hello", chat)) == "recycled"
    assert messages_sent(model.main_requests[-1]) == as_sent(Message("user", "hello"))
    history = talk("one", "two")
    assert await answered(query(pool, "three", chat, history=history)) == "recycled"
    assert messages_sent(model.main_requests[-1]) == as_sent(*history, Message("user", "three"))
    for request in model.main_requests[1:]:
        assert "secret" not in str(request.body)
        assert request.system_text.endswith("Be kind.")
        assert request.tools == ["mcp__client__clock"]
    assert pool.pids() == pids
    assert pool.served == {"cold": 1, "recycled": 2}


async def test_a_process_is_cleared_for_nobody_else_and_nothing_else(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    chat = replace(chat, **BOUND)
    others = [
        ("A", chat),
        ("B", chat),
        ("B", replace(chat, system_prompt=PIRATE)),
        ("B", replace(chat, tools=())),
        ("B", replace(chat, schema=SCHEMA)),
    ]
    pids: set[int] = set()
    for number, (owner, options) in enumerate(others):
        turn = query(pool, f"A secret prompt {number}.", options, owner=owner)
        assert await answered(turn) == "cold"
        request = await asked(model, f"A secret prompt {number}.")
        assert messages_sent(request) == as_sent(Message("user", f"A secret prompt {number}."))
        pids.update(process.pid for process in started(home))
        await able(pool)
    assert len(pids) == len(others)


async def failed(pool: Pool, model: OfflineModel, chat: Options) -> None:
    model.script(Reply(error=ApiError(500)))
    with pytest.raises(ModelError):
        await query(pool, "A secret prompt.", chat).finish()


async def interrupted(pool: Pool, model: OfflineModel, chat: Options) -> None:
    model.script(held())
    turn = query(pool, "A secret prompt.", chat)
    await until(turn, TextDelta)
    await turn.interrupt()


async def at_its_limit(pool: Pool, model: OfflineModel, chat: Options) -> None:
    async def tell(given: dict[str, Any]) -> str:
        return "a secret time"

    limited = replace(chat, tools=(replace(a_tool(), handler=tell),), sdk={"max_turns": 1})
    model.script(Reply(tools=[("mcp__client__clock", {})]))
    end = await query(pool, "A secret prompt.", limited).finish()
    assert end.reason == "max_turns"


@pytest.mark.parametrize("how", [failed, interrupted, at_its_limit])
async def test_a_process_whose_state_is_in_doubt_serves_nobody_any_more(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    how: Callable[[Pool, OfflineModel, Options], Awaitable[None]],
) -> None:
    pool = make_pool(warm=True)
    await how(pool, model, chat)
    await eventually(lambda: clis(home) == [])
    assert pool.count("idle") == 0
    assert await answered(query(pool, "hello", chat)) == "cold"
    assert messages_sent(model.main_requests[-1]) == as_sent(Message("user", "hello"))


async def test_a_process_in_agent_mode_is_not_cleared_for_another_conversation(
    make_pool: MakePool, model: OfflineModel, agent: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    model.script(Reply("Hi Ann."), Reply("fine"))
    await query(pool, "I am Ann.", agent).finish()
    pids = pool.pids()
    await able(pool)
    assert await answered(query(pool, "hello", agent)) == "cold"
    assert not set(pids) & set(pool.pids())


async def test_a_model_that_was_switched_to_is_not_kept(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(*[Reply("yes")] * 5)
    await query(pool, "one", chat).finish()
    pids = pool.pids()
    await able(pool)
    haiku = replace(chat, model="claude-haiku-4-5-20251001")
    history = talk("one", "yes")
    for prompt, options in (("two", haiku), ("three", chat)):
        await query(pool, prompt, options, history=history).finish()
        history += talk(prompt, "yes")
    for prompt, options in (("other", haiku), ("another", chat)):
        assert await answered(query(pool, prompt, options)) == "recycled"
    default, *models = [request.body["model"] for request in model.main_requests]
    assert "haiku" not in default
    assert models == [haiku.model, default, haiku.model, default]
    assert pool.pids() == pids
    # The CLI's own remark about the switch is nothing that the client has said.
    assert [conversation_sent(request) for request in model.main_requests[1:]] == [
        spoken(*talk("one", "yes", "two")),
        spoken(*talk("one", "yes", "two", "yes", "three")),
        spoken(*talk("other")),
        spoken(*talk("another")),
    ]


async def test_cost_and_usage_are_those_of_the_turn_alone(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    model.script(*[COUNTED] * 5)
    history = talk("one", "yes")
    turns = [query(pool, "one", chat)]
    await turns[0].finish()
    await spare_for(pool, "")
    for prompt, given in (("two", history), ("three", []), ("four", history), ("five", history)):
        turns.append(query(pool, prompt, chat, history=given))
        await turns[-1].finish()
    assert [turn.warmth for turn in turns] == ["cold", "live", "bound", "recycled", "recycled"]
    ends = [turn.end for turn in turns]
    costs = [end.cost_usd for end in ends if end is not None]
    assert costs[0] > 0
    assert costs == pytest.approx([costs[0]] * 5)
    assert [end.usage.total_tokens for end in ends if end is not None] == [4330] * 5


# Spares: started ahead, first for anything, then for what is asked for.


async def test_there_is_nothing_before_a_request_and_then_one_for_anything_and_one_for_its_owner(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2)
    assert psutil.Process().children() == []
    chat = replace(chat, system_prompt=PIRATE)
    await query(pool, "hello", chat, owner="A").finish()
    pids = {*pool.pids(), await spare_for(pool), await spare_for(pool, "A", PIRATE)}
    assert {process.pid for process in clis(home)} == pids
    assert len(pids) == 3
    # The model was asked nothing for it.
    assert [request.user_text for request in model.requests] == ["hello"]


async def test_what_was_never_seen_takes_the_spare_for_anything_and_what_was_takes_its_own(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    kind, pirate = replace(chat, system_prompt="Be kind."), replace(chat, system_prompt=PIRATE)
    await query(pool, "hello", kind).finish()
    unbound, bound = await spare_for(pool), await spare_for(pool, "", "Be kind.")
    history = talk("one", "two")
    assert await answered(query(pool, "never", pirate, history=history)) == "spare"
    assert await answered(query(pool, "known", kind, history=history)) == "bound"
    assert {unbound, bound} < set(pool.pids())
    for request, prompt, system in zip(
        model.main_requests[1:], ("never", "known"), (PIRATE, "Be kind."), strict=True
    ):
        assert messages_sent(request) == as_sent(*history, Message("user", prompt))
        assert request.system_text.endswith(system)
    assert {unbound}.isdisjoint({await spare_for(pool)})


async def test_a_conversation_is_left_alone_where_a_spare_serves_another(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    model.script(Reply("Hi Ann."), Reply("fine"), Reply("Ann."))
    await query(pool, "I am Ann.", chat).finish()
    await spare_for(pool, "")
    assert await answered(query(pool, "Something else.", chat)) == "bound"
    again = query(pool, "Who am I?", chat, history=talk("I am Ann.", "Hi Ann."))
    assert await answered(again) == "live"


@pytest.mark.parametrize("limits", [{"warm": True, "spares": 0}, {"warm": False, "spares": 2}])
async def test_there_are_none_where_they_are_not_wanted(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path, limits: dict[str, Any]
) -> None:
    pool = make_pool(**limits)
    for prompt in ("one", "two"):
        await query(pool, prompt, chat).finish()
        if limits["warm"]:
            # By then the stock has been looked after.
            await able(pool)
    await eventually(lambda: pool.count("closing") == 0)
    assert len(started(home)) == len(pool.slots) == (1 if limits["warm"] else 0)


async def test_the_limit_holds_at_every_moment_spares_included(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=1, max_concurrent_sessions=3)
    seen_by_state = Counter[str]()
    counts = []

    async def look(asking: asyncio.Future[Any]) -> None:
        while not asking.done():
            counts.append((len(started(home)), len(pool.slots)))
            seen_by_state.update(slot.state for slot in pool.slots)
            await asyncio.wait([asking], timeout=0.02)

    async def ask(owner: str) -> None:
        for number, prompt in enumerate(("Be kind.", PIRATE, "Be brief.", PIRATE)):
            options = replace(chat, system_prompt=prompt)
            await query(pool, f"{owner} {number}", options, owner=owner).finish()

    waiting = asyncio.ensure_future(answered(query(pool, "wake up", chat)))
    await look(waiting)
    await look(asyncio.ensure_future(spare_for(pool)))
    asking = asyncio.gather(*map(ask, "AB"))
    await look(asking)
    await asking
    assert max(counts) == (3, 3)
    assert seen_by_state.keys() >= {"spare", "busy", "idle", "closing"}
    assert len(model.main_requests) == 9


async def test_a_spare_gives_way_to_whom_it_cannot_serve(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=1, max_concurrent_sessions=2)
    model.script(held(), Reply("fine"))
    busy = query(pool, "hold on", chat, owner="A")
    spare = psutil.Process(await spare_for(pool))
    elsewhere = replace(chat, cwd=home)
    assert await answered(query(pool, "hello", elsewhere, owner="B")) == "cold"
    await gone(spare)
    model.release()
    await busy.finish()


async def test_what_was_started_for_one_owner_never_serves_another(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    chat = replace(chat, system_prompt=PIRATE)
    await query(pool, "hello", chat, owner="A").finish()
    bound = await spare_for(pool, "A", PIRATE)
    await spare_for(pool)
    turns = [query(pool, f"hello {number}", chat, owner="B") for number in range(2)]
    assert [await answered(turn) for turn in turns] == ["spare", "cold"]
    assert all(
        slot.owner == "A" for slot in pool.slots if slot.process and slot.process.pid == bound
    )


async def test_what_is_kept_ready_is_what_is_asked_for_most(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    once, often = replace(chat, system_prompt="Once."), replace(chat, system_prompt="Often.")
    model.script(*[Reply("yes")] * 5)
    await query(pool, "hello", once).finish()
    await spare_for(pool, "", "Once.")
    history: list[Message] = []
    for _ in range(3):
        await query(pool, "hello", often, history=history).finish()
        history += talk("hello", "yes")
    await spare_for(pool, "", "Often.")
    await spare_for(pool)
    assert spares(pool).count("") == 1
    assert await answered(query(pool, "another", often)) == "bound"


async def test_spares_end_when_nobody_asks_any_more(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2, idle_timeout=1.0)

    async def ask() -> None:
        # On a busy machine the first request may be forgotten before there is a spare.
        while not spares(pool):
            await query(pool, "hello", chat).finish()

    async with asyncio.timeout(30):
        await ask()
    await eventually(lambda: not pool.slots)
    assert clis(home) == []
    assert await answered(query(pool, "hello", chat)) == "cold"


# Memory: what a process needs must be there.


class Gauge:
    """Memory as a test sets it; `asked` counts who looked."""

    def __init__(self, limit: int, available: int) -> None:
        self.now = Memory(limit, available)
        self.asked = 0

    def __call__(self) -> Memory:
        self.asked += 1
        return self.now


async def test_a_small_container_gets_no_spare(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    gauge = Gauge(2 * GB - 1, 2 * GB - 1)
    pool = make_pool(warm=True, spares=2, memory=gauge)
    await query(pool, "hello", chat).finish()
    await eventually(lambda: gauge.asked)
    assert len(pool.slots) == len(started(home)) == 1
    gauge.now = Memory(2 * GB, 2 * GB)
    await query(pool, "hello again", chat).finish()
    await spare_for(pool)


async def test_without_memory_for_another_the_process_that_is_there_serves_one_after_another(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2, memory=Gauge(16 * GB, PROCESS_MEMORY - 1))
    counts = []
    await query(pool, "wake up", chat, owner="A").finish()
    pids = pool.pids()
    await able(pool)
    same = asyncio.gather(*(answered(query(pool, f"A{n}", chat, owner="A")) for n in range(4)))
    assert await same == ["recycled"] * 4
    assert pool.pids() == pids
    # Idle ones give way to others.
    turns = [query(pool, f"{owner}!", chat, owner=owner) for owner in "BCAB"]
    others = asyncio.gather(*(turn.finish() for turn in turns))
    while not others.done():
        counts.append(len(started(home)))
        await asyncio.wait([others], timeout=0.02)
    await others
    assert max(counts) == 1
    assert sorted(request.user_text for request in model.main_requests[5:]) == [
        "A!",
        "B!",
        "B!",
        "C!",
    ]


async def test_memory_that_comes_back_is_noticed(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    gauge = Gauge(16 * GB, 0)
    pool = make_pool(warm=True, spares=0, memory=gauge)
    model.script(held(), Reply("fine"))
    first = query(pool, "first", chat)
    await until(first, TextDelta)
    second = query(pool, "second", chat)
    await eventually(lambda: gauge.asked > 1)
    assert pool.waiting == 1
    gauge.now = PLENTY
    assert (await second.finish()).text == "fine"
    assert first.end is None
    model.release()
    await first.finish()


# Without warmth, and beside it.


async def test_without_warmth_every_turn_has_a_process_of_its_own_and_leaves_none(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=False, spares=2)
    model.script(Reply("Hi Ann."), Reply("Ann."), Reply("fine"))
    for prompt, history in (("I am Ann.", []), ("Who am I?", talk("I am Ann.", "Hi Ann."))):
        assert await answered(query(pool, prompt, chat, history=history)) == "cold"
    assert await answered(query(pool, "hello", chat)) == "cold"
    await eventually(lambda: clis(home) == [])
    assert pool.served == {"cold": 3}
    assert transcripts(home) == []
    assert messages_sent(model.main_requests[1])[:2] == as_sent(*talk("I am Ann.", "Hi Ann."))


async def test_a_conversation_and_a_stateless_client_never_share_a_process(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    model.script(*[Reply("Hi Ann.")] * 2, *[Reply("Ann.")] * 2)
    await conversation.send("I am Ann.").finish()
    (its_own,) = pool.pids()
    await able(pool)
    history = talk("I am Ann.", "Hi Ann.")
    assert await answered(query(pool, "I am Ann.", chat)) == "cold"
    turn = query(pool, "Who am I?", chat, history=history)
    assert await answered(turn) == "live"
    turn = conversation.send("Who am I?")
    assert await answered(turn) == "live"
    assert len(pool.pids()) == 2
    assert its_own in pool.pids()
    # Nor where it has lost its process.
    process = psutil.Process(its_own)
    process.kill()
    await gone(process)
    assert await answered(conversation.send("And now?")) == "cold"
    assert messages_sent(model.main_requests[-1])[:4] == as_sent(
        *history, *talk("Who am I?", "Ann.")
    )


async def test_closing_a_conversation_ends_its_process(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    await conversation.send("hello").finish()
    assert len(started(home)) == 1
    await conversation.close()
    assert clis(home) == []
    assert await answered(query(pool, "hello", chat)) == "cold"
