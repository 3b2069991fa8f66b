"""Conversations by their id, and what is kept of them."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.principal import Principal
from jupyter_ccapi.store import StoreUnavailable
from tests.claude.support import conversation_sent
from tests.server.chats import CHAT, WEATHER, Call, chat, result
from tests.server.test_images_in_chats import DATA_URL
from tests.server.waiting import eventually
from tests.servers import TOKEN, jupyter_server

CONVERSATIONS = ("v1", "conversations")


def texts(model: OfflineModel) -> list[str]:
    """What the model was sent last."""
    return [text for _, text in conversation_sent(model.main_requests[-1])]


async def begun(call: Call, text: str = "one", **fields: Any) -> str:
    """The id of a conversation that begins so."""
    answer = await call(*CHAT, json=chat(text, **fields))
    id = answer.body["conversation_id"]
    assert answer.headers["x-ccapi-conversation-id"] == id
    return str(id)


async def test_a_follow_up_sends_only_what_is_new(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"))
    system = {"role": "system", "content": "Be brief."}
    first = await call(*CHAT, json={"messages": [system, {"role": "user", "content": "one"}]})
    id = first.body["conversation_id"]
    answer = await call(*CHAT, json=chat("three", conversation_id=id))
    assert answer.body["conversation_id"] == id
    assert texts(model) == ["one", "two", "three"]
    assert "Be brief." in model.main_requests[-1].system_text


async def test_nothing_is_doubled_where_the_client_sends_it_all(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply("four"), Reply("six"))
    id = await begun(call)
    said = [
        {"role": role, "content": text}
        for role, text in zip(
            ("user", "assistant", "user", "assistant", "user"),
            ("one", "two", "three", "four", "five"),
            strict=True,
        )
    ]
    for length in (3, 5):
        await call(*CHAT, json={"messages": said[:length], "conversation_id": id})
    assert texts(model) == ["one", "two", "three", "four", "five"]
    items = (await call(*CONVERSATIONS, id, "items", params={"order": "asc"})).body["data"]
    assert [item["content"][0]["text"] for item in items] == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
    ]


async def test_the_id_is_in_the_header_of_a_stream(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"))
    answer = await call(*CHAT, json=chat("one", stream=True))
    id = answer.headers["x-ccapi-conversation-id"]
    await call(*CHAT, json=chat("three", conversation_id=id, stream=True))
    assert texts(model) == ["one", "two", "three"]


async def test_a_client_that_resends_its_history_is_in_one_conversation(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply("four"))
    id = await begun(call)
    said = [*chat("one")["messages"], {"role": "assistant", "content": "two"}]
    answer = await call(*CHAT, json={"messages": [*said, {"role": "user", "content": "three"}]})
    assert answer.body["conversation_id"] == id


async def test_an_unknown_id_is_a_404_before_anything_is_spent(
    call: Call, model: OfflineModel
) -> None:
    answer = await call(*CHAT, json=chat(conversation_id="conv_nobody"))
    assert (answer.status, answer.body["error"]["param"]) == (404, "conversation_id")
    assert model.requests == []


async def test_calls_and_results_are_part_of_it(call: Call, model: OfflineModel) -> None:
    model.script(Reply(tools=[("mcp__client__weather", {"city": "Oslo"})]), Reply("Rain."))
    answer = await call(*CHAT, json=chat("Weather?", tools=[WEATHER]))
    id = answer.body["conversation_id"]
    (one,) = answer.body["choices"][0]["message"]["tool_calls"]
    body = {"messages": [result(one["id"], "It rains")], "tools": [WEATHER], "conversation_id": id}
    answer = await call(*CHAT, json=body)
    assert answer.body["choices"][0]["message"]["content"] == "Rain."
    assert model.main_requests[-1].tool_results[0].text == "It rains"
    items = (await call(*CONVERSATIONS, id, "items", params={"order": "asc"})).body["data"]
    assert [item["type"] for item in items] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert items[1]["name"] == "weather"
    assert items[2]["output"] == "It rains"


async def test_two_requests_at_once_are_answered_in_order(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"))
    id = await begun(call)
    hold = threading.Event()
    model.script(Reply("four again", hold=hold), Reply("six"))
    first = asyncio.ensure_future(call(*CHAT, json=chat("three", conversation_id=id)))
    await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
    second = asyncio.ensure_future(call(*CHAT, json=chat("five", conversation_id=id)))
    await asyncio.sleep(0)
    assert len(model.main_requests) == 2
    hold.set()
    await asyncio.gather(first, second)
    assert texts(model) == ["one", "two", "three", "four again", "five"]


async def test_a_turn_that_failed_leaves_it_as_it_was(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply(error=ApiError(529)), Reply("four"))
    id = await begun(call)
    assert (await call(*CHAT, json=chat("lost", conversation_id=id))).status == 529
    await call(*CHAT, json=chat("three", conversation_id=id))
    assert texts(model) == ["one", "two", "three"]


async def test_a_request_may_ask_not_to_be_kept(call: Call) -> None:
    answer = await call(*CHAT, json=chat(store=False))
    assert "conversation_id" not in answer.body
    assert "x-ccapi-conversation-id" not in answer.headers
    assert (await call(*CONVERSATIONS)).body["data"] == []


async def test_create_list_change_fork_and_delete(call: Call, model: OfflineModel) -> None:
    items = [
        {"type": "message", "role": "user", "content": "I am Ann."},
        {"type": "message", "role": "assistant", "content": "Hello, Ann."},
    ]
    made = (await call(*CONVERSATIONS, json={"metadata": {"a": "b"}, "items": items})).body
    assert (made["object"], made["metadata"]) == ("conversation", {"a": "b"})
    id = made["id"]
    other = (await call(*CONVERSATIONS, json={})).body["id"]
    listed = (await call(*CONVERSATIONS, params={"limit": 1})).body
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == ([other], True)
    rest = (await call(*CONVERSATIONS, params={"after": listed["last_id"]})).body
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([id], False)

    patch = {"method": "PATCH", "body": '{"metadata": {"c": "d"}, "title": "Ann"}'}
    assert (await call(*CONVERSATIONS, id, **patch)).body["title"] == "Ann"
    assert (await call(*CONVERSATIONS, id, json={"metadata": {"e": "f"}})).body["metadata"] == {
        "e": "f"
    }
    await call(*CHAT, json=chat("Who am I?", conversation_id=id))
    assert texts(model) == ["I am Ann.", "Hello, Ann.", "Who am I?"]

    said = (await call(*CONVERSATIONS, id, "items", params={"order": "asc"})).body["data"]
    fork = (await call(*CONVERSATIONS, id, "fork", json={"item_id": said[1]["id"]})).body
    assert fork["forked_from"] == id
    await call(*CHAT, json=chat("And now?", conversation_id=fork["id"]))
    assert texts(model) == ["I am Ann.", "Hello, Ann.", "And now?"]

    gone = (await call(*CONVERSATIONS, id, method="DELETE")).body
    assert gone == {"id": id, "object": "conversation.deleted", "deleted": True}
    assert (await call(*CONVERSATIONS, id)).status == 404
    assert (await call(*CONVERSATIONS, id, "items")).status == 404
    assert (await call(*CONVERSATIONS, fork["id"])).status == 200


async def test_items_can_be_added_shown_and_taken_out(call: Call, model: OfflineModel) -> None:
    id = (await call(*CONVERSATIONS, json={})).body["id"]
    said = {
        "items": [
            {"role": "user", "content": "I am Ann."},
            {"role": "user", "content": "And old."},
            {"role": "assistant", "content": "Hello."},
        ]
    }
    added = (await call(*CONVERSATIONS, id, "items", json=said)).body["data"]
    assert [item["role"] for item in added] == ["user", "assistant"]
    one = (await call(*CONVERSATIONS, id, "items", added[0]["id"])).body
    assert one == added[0]
    assert (await call(*CONVERSATIONS, id, "items", "msg_nothing-0")).status == 404
    assert (await call(*CONVERSATIONS, id, "items", added[1]["id"], method="DELETE")).body[
        "id"
    ] == id
    left = (await call(*CONVERSATIONS, id, "items")).body["data"]
    assert [item["id"] for item in left] == [added[0]["id"]]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ((), {"metadata": {"a": 1}}, "metadata.a"),
        ((), {"items": [{"role": "robot", "content": "x"}]}, "items[0].role"),
        ((), {"items": [{"role": "assistant", "content": "x"}]}, "messages"),
    ],
)
async def test_what_is_wrong_is_named(
    call: Call, path: tuple[str, ...], body: dict[str, Any], param: str
) -> None:
    answer = await call(*CONVERSATIONS, *path, json=body)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


class TestNothingIsKept:
    """A server that is to keep no conversations."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"store_conversations": False}

    async def test_only_those_are_kept_that_were_made_on_purpose(self, call: Call) -> None:
        assert "conversation_id" not in (await call(*CHAT, json=chat())).body
        id = (await call(*CONVERSATIONS, json={})).body["id"]
        await call(*CHAT, json=chat("one", conversation_id=id))
        assert len((await call(*CONVERSATIONS, id, "items")).body["data"]) == 2


def test_a_conversation_outlives_its_server(model: OfflineModel, home: Path) -> None:
    def ask(api: str, text: str, id: str | None) -> str:
        with OpenAI(base_url=api, api_key=TOKEN) as client:
            answer = client.chat.completions.create(
                model="sonnet",
                messages=[{"role": "user", "content": text}],
                extra_body={"conversation_id": id} if id else {},
            )
        return str(answer.conversation_id)  # type: ignore[attr-defined]

    model.script(Reply("two"), Reply("four"))
    with jupyter_server(model, home) as server:
        id = ask(server.api, "one", None)
    with jupyter_server(model, home) as server:
        assert ask(server.api, "three", id) == id
    assert texts(model) == ["one", "two", "three"]


async def test_to_others_it_is_not_there(call: Call, app: CCApiApp, model: OfflineModel) -> None:
    id = await begun(call)
    assert app.serverapp is not None
    settings = app.serverapp.web_app.settings
    settings["ccapi_identify"] = lambda handler: Principal("another", "another")
    answer = await call(*CHAT, json=chat("two", conversation_id=id))
    assert answer.status == 404
    assert (await call(*CONVERSATIONS)).body["data"] == []
    assert (await call(*CONVERSATIONS, id)).status == 404
    assert (await call(*CONVERSATIONS, id, method="DELETE")).status == 404


async def test_an_answer_that_is_cut_while_thinking_leaves_no_question_doubled(
    call: Call, model: OfflineModel
) -> None:
    id = (await call(*CONVERSATIONS, json={})).body["id"]
    model.script(Reply(thinking="hm", stop_reason="max_tokens"), Reply("two"))
    await call(*CHAT, json=chat("one", conversation_id=id, max_tokens=5))
    items = (await call(*CONVERSATIONS, id, "items")).body["data"]
    assert [item["role"] for item in items] == ["user"]


async def test_an_edit_that_cannot_be_kept_leaves_it_as_it_was(
    call: Call, model: OfflineModel, app: CCApiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.script(Reply("two"), Reply("four"), Reply("4"))
    id = await begun(call)
    await call(*CHAT, json=chat("three", conversation_id=id))

    async def broken(*given: Any, **more: Any) -> None:
        raise StoreUnavailable("The disk is full.")

    kept = app.gateway.store.conversations
    edited = {
        "messages": [
            *chat("one")["messages"],
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "3"},
        ]
    }
    with monkeypatch.context() as patched:
        patched.setattr(kept, "append", broken)
        answer = await call(*CHAT, json={**edited, "conversation_id": id})
    assert (answer.status, answer.body["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["x-should-retry"] == "false"
    items = (await call(*CONVERSATIONS, id, "items", params={"order": "asc"})).body["data"]
    assert [item["content"][0]["text"] for item in items] == ["one", "two", "three", "four"]


async def test_who_goes_on_from_before_its_end_is_in_a_conversation_of_its_own(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply("four"), Reply("other"))
    id = await begun(call)
    await call(*CHAT, json=chat("three", conversation_id=id))
    branch = [*chat("one")["messages"], {"role": "assistant", "content": "two"}]
    answer = await call(*CHAT, json={"messages": [*branch, {"role": "user", "content": "else"}]})
    assert answer.body["conversation_id"] != id
    items = (await call(*CONVERSATIONS, id, "items")).body["data"]
    assert len(items) == 4


async def test_the_same_words_to_another_system_prompt_are_another_conversation(
    call: Call, model: OfflineModel
) -> None:
    def body(system: str, *texts: str) -> dict[str, Any]:
        said = [
            {"role": "assistant" if n % 2 else "user", "content": text}
            for n, text in enumerate(texts)
        ]
        return {"messages": [{"role": "system", "content": system}, *said]}

    model.script(Reply("two"), Reply("two"), Reply("four"), Reply("four"))
    a, b = [(await call(*CHAT, json=body(s, "one"))).body["conversation_id"] for s in "AB"]
    for system, id in (("A", a), ("B", b)):
        answer = await call(*CHAT, json=body(system, "one", "two", "three"))
        assert answer.body["conversation_id"] == id


async def test_a_retry_after_a_failure_is_in_the_same_conversation(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply(error=ApiError(529)), Reply("four"))
    id = await begun(call)
    more = {
        "messages": [
            *chat("one")["messages"],
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ]
    }
    assert (await call(*CHAT, json=more)).status == 529
    assert (await call(*CHAT, json=more)).body["conversation_id"] == id


async def test_a_named_request_waits_for_an_unnamed_one(call: Call, model: OfflineModel) -> None:
    hold = threading.Event()
    model.script(Reply("two words", hold=hold), Reply("four"))
    ids: list[str] = []
    first = asyncio.ensure_future(
        call(*CHAT, json=chat("one", stream=True), header_callback=ids.append)
    )
    await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
    await eventually(lambda: any("conversation-id" in line.lower() for line in ids))
    (id,) = [line.split(": ")[1].strip() for line in ids if "conversation-id" in line.lower()]
    second = asyncio.ensure_future(call(*CHAT, json=chat("three", conversation_id=id)))
    await asyncio.sleep(0)
    hold.set()
    await asyncio.gather(first, second)
    assert texts(model) == ["one", "two words", "three"]


async def test_images_in_items_are_read_when_they_are_added(call: Call) -> None:
    def items(url: str) -> dict[str, Any]:
        content = [{"type": "input_image", "image_url": url}]
        return {"items": [{"role": "user", "content": content}]}

    made = await call(*CONVERSATIONS, json=items(DATA_URL))
    (item,) = (await call(*CONVERSATIONS, made.body["id"], "items")).body["data"]
    assert item["content"][0]["image_url"].startswith("data:image/png;base64,")
    refused = await call(*CONVERSATIONS, made.body["id"], "items", json=items("/etc/hostname"))
    assert (refused.status, refused.body["error"]["code"]) == (400, "invalid_image")


async def test_what_is_not_to_be_kept_is_not_added(call: Call, model: OfflineModel) -> None:
    id = await begun(call)
    await call(*CHAT, json=chat("secret", conversation_id=id, store=False))
    assert len((await call(*CONVERSATIONS, id, "items")).body["data"]) == 2
