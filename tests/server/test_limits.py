"""max_tokens, stop sequences, retries and requests that are sent twice."""

import asyncio
import json
import threading

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.server.chats import CHAT, Call, assembled, chat, post_alone


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_too_long_is_what_came_and_the_model_is_asked_once(
    call: Call, model: OfflineModel, name: str, stream: bool
) -> None:
    # No model answers at once; this one does not either.
    cut = Reply("one two three", stop_reason="max_tokens", word_delay=0.1)
    model.script(cut, Reply("and four"))
    answer = await call(*CHAT, json={**chat(stream=stream), name: 3})
    message = assembled(answer.body) if stream else answer.body["choices"][0]
    assert message["finish_reason"] == "length"
    text = message["content"] if stream else message["message"]["content"]
    assert text == "one two three"
    (request,) = model.main_requests
    assert request.body["max_tokens"] == 3


async def test_the_next_request_has_no_limit_of_the_one_before(
    call: Call, model: OfflineModel
) -> None:
    await call(*CHAT, json=chat("one", max_tokens=7))
    await call(*CHAT, json=chat("two"))
    first, second = model.main_requests
    assert first.body["max_tokens"] == 7
    assert second.body["max_tokens"] > 1000


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["END", ["nothing", "END"]])
async def test_a_stop_sequence_cuts_the_answer_and_ends_the_turn(
    call: Call, model: OfflineModel, stop: str | list[str], stream: bool
) -> None:
    model.script(Reply("one E N D END" + " two three" * 1000, word_delay=0.02))
    answer = await call(*CHAT, json=chat(stop=stop, stream=stream))
    message = assembled(answer.body) if stream else answer.body["choices"][0]
    assert message["finish_reason"] == "stop"
    text = message["content"] if stream else message["message"]["content"]
    assert text == "one E N D "
    await asyncio.to_thread(model.wait_for, lambda r: r.closed_early, 10)


async def test_a_request_that_is_sent_twice_is_answered_once(
    call: Call, model: OfflineModel
) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    headers = {"Idempotency-Key": "a-key"}
    first = asyncio.ensure_future(call(*CHAT, json=chat(stream=True), headers=headers))
    await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
    second = asyncio.ensure_future(call(*CHAT, json=chat(stream=True), headers=headers))
    hold.set()
    answers = [
        await first,
        await second,
        await call(*CHAT, json=chat(stream=True), headers=headers),
    ]
    assert {answer.body for answer in answers} == {answers[0].body}
    assert assembled(answers[0].body)["content"] == "one two three"
    assert len(model.main_requests) == 1
    assert answers[2].headers["x-ccapi-replayed"] == "true"


async def test_a_key_that_came_with_another_body_is_refused(call: Call) -> None:
    headers = {"Idempotency-Key": "a-key"}
    await call(*CHAT, json=chat("one"), headers=headers)
    answer = await call(*CHAT, json=chat("two"), headers=headers)
    assert (answer.status, answer.body["error"]["code"]) == (400, "idempotency_key_reused")


async def test_who_joins_has_the_answer_though_the_first_has_left(
    call: Call, model: OfflineModel, jp_serverapp: ServerApp, http_server: object
) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    body = json.dumps(chat(stream=True))
    writer = await post_alone(jp_serverapp, body, {"Idempotency-Key": "a-key"})
    await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
    headers = {"Idempotency-Key": "a-key"}
    second = asyncio.ensure_future(call(*CHAT, method="POST", body=body, headers=headers))
    writer.close()
    await writer.wait_closed()
    hold.set()
    assert assembled((await second).body)["content"] == "one two three"
    assert len(model.main_requests) == 1


class TestSilence:
    """A server that has to say at once that it is there."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, float]:
        return {"keep_alive": 0.05}

    async def test_comments_come_while_a_stream_waits_for_its_conversation(
        self, call: Call, model: OfflineModel
    ) -> None:
        id = (await call("v1", "conversations", json={})).body["id"]
        hold = threading.Event()
        model.script(Reply("one two", hold=hold), Reply("four"))
        first = asyncio.ensure_future(call(*CHAT, json=chat("one", conversation_id=id)))
        await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
        arrived = asyncio.Event()
        received = bytearray()

        def receive(chunk: bytes) -> None:
            received.extend(chunk)
            arrived.set()

        body = chat("three", conversation_id=id, stream=True)
        second = asyncio.ensure_future(call(*CHAT, json=body, streaming_callback=receive))
        await asyncio.wait_for(arrived.wait(), 30)
        assert received.startswith(b": keep-alive")
        hold.set()
        await asyncio.gather(first, second)
        assert assembled(received.decode())["content"] == "four"
