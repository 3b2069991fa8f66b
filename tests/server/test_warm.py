"""Warm processes as a client and an administrator of the server see them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from tests.claude.support import clis, conversation_sent, eventually
from tests.server.conftest import Answer

Call = Callable[..., Awaitable[Answer]]

FIRST = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "I am Ann."}]


def said(answer: Answer) -> str:
    """What the model said."""
    return str(answer.body["choices"][0]["message"]["content"])


async def talk(call: Call) -> list[Answer]:
    """Two turns of a client that sends the whole conversation each time."""
    first = await call("v1", "chat", "completions", json={"messages": FIRST})
    history = [
        *FIRST,
        {"role": "assistant", "content": said(first)},
        {"role": "user", "content": "Who am I?"},
    ]
    return [first, await call("v1", "chat", "completions", json={"messages": history})]


class TestByDefault:
    """With the warm paths on."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"warm": True}

    async def test_a_client_that_resends_its_history_goes_on_in_the_same_process(
        self, call: Call, model: OfflineModel
    ) -> None:
        model.script(Reply("Hi Ann."), Reply("Ann."))
        answers = await talk(call)
        assert [answer.headers["x-ccapi-process"] for answer in answers] == ["cold", "live"]
        assert conversation_sent(model.main_requests[-1]) == [
            ("user", "I am Ann."),
            ("assistant", "Hi Ann."),
            ("user", "Who am I?"),
        ]
        warm = (await call("stats")).body["warm"]
        assert (warm["on"], warm["cold"], warm["live"], warm["failed"]) == (True, 1, 1, 0)
        assert 'ccapi_turns_total{warmth="live"}' in (await call("metrics")).body

    async def test_a_stream_says_it_too(self, call: Call) -> None:
        body = {"messages": FIRST, "stream": True}
        answer = await call("v1", "chat", "completions", json=body)
        assert answer.headers["x-ccapi-process"] == "cold"

    async def test_the_processes_and_their_room_are_in_the_stats(
        self, call: Call, app: CCApiApp
    ) -> None:
        before = (await call("stats")).body
        assert before["processes"] | {"max": 0} == {
            **dict.fromkeys(("starting", "spare", "idle", "busy", "queue", "max"), 0),
            "ended": dict.fromkeys(("done", "gave_way", "expired", "died"), 0),
        }
        await call("v1", "chat", "completions", json={"messages": FIRST})
        await eventually(lambda: app.gateway.pool.count("spare") == 2)
        after = (await call("stats")).body
        assert (after["processes"]["spare"], after["processes"]["idle"]) == (2, 1)
        assert 0 < after["memory_bytes"]["available"] <= after["memory_bytes"]["limit"]
        assert all(after["warm"]["capabilities"].values())


class TestSwitchedOff:
    """With ``CCApiApp.warm = False``."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"warm": False}

    async def test_every_turn_has_a_process_of_its_own(
        self, call: Call, model: OfflineModel, app: CCApiApp, home: Any
    ) -> None:
        model.script(Reply("Hi Ann."), Reply("Ann."))
        answers = await talk(call)
        assert [answer.headers["x-ccapi-process"] for answer in answers] == ["cold", "cold"]
        assert conversation_sent(model.main_requests[-1]) == [
            ("user", "I am Ann."),
            ("assistant", "Hi Ann."),
            ("user", "Who am I?"),
        ]
        await eventually(lambda: not clis(home))
        stats = (await call("stats")).body
        assert (stats["warm"]["on"], stats["warm"]["cold"], stats["warm"]["live"]) == (False, 2, 0)
        assert stats["processes"]["spare"] == 0
