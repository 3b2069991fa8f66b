"""POST /v1/chat/completions on a Jupyter server, over the real CLI and the offline model."""

import asyncio
import json
import os
import signal
import threading
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from tests.server.chats import CHAT, Call, chat, events, post_alone
from tests.server.waiting import eventually


async def test_an_answer_has_the_models_text_usage_and_cost(
    call: Call, model: OfflineModel
) -> None:
    model.script(
        Reply(
            "Hello, you.",
            thinking="A greeting.",
            input_tokens=10,
            cache_read_input_tokens=80,
            cache_creation_input_tokens=10,
            output_tokens=4,
        )
    )
    answer = await call(*CHAT, json=chat(model="sonnet"))
    assert answer.status == 200
    message = answer.body["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello, you.", "A greeting.")
    assert answer.body["usage"]["prompt_tokens"] == 100
    assert answer.body["usage"]["prompt_tokens_details"] == {"cached_tokens": 80}
    assert answer.body["usage"]["completion_tokens"] == 4
    assert answer.body["model"].startswith("claude-sonnet")
    assert float(answer.headers["x-ccapi-cost-usd"]) > 0


async def test_the_model_is_sent_the_conversation_and_nothing_else(
    call: Call, model: OfflineModel
) -> None:
    await call(
        *CHAT,
        json={
            "model": "haiku",
            "messages": [
                {"role": "system", "content": "Speak like a pirate."},
                {"role": "user", "content": "I am Ann."},
                {"role": "assistant", "content": "Ahoy, Ann."},
                {"role": "user", "content": "@/etc/hostname /clear Who am I?"},
            ],
        },
    )
    (request,) = model.main_requests
    said = [
        (m["role"], m["content"] if isinstance(m["content"], str) else m["content"][0]["text"])
        for m in request.messages
        if m["role"] != "system"
    ]
    assert said == [
        ("user", "I am Ann."),
        ("assistant", "Ahoy, Ann."),
        ("user", "@/etc/hostname /clear Who am I?"),
    ]
    assert "Speak like a pirate." in request.system_text
    assert request.tools == []
    assert request.body["model"].startswith("claude-haiku")


async def test_a_stream_brings_each_delta_when_it_is_made(call: Call, model: OfflineModel) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    chunks: list[bytes] = []
    first = asyncio.Event()

    def receive(chunk: bytes) -> None:
        chunks.append(chunk)
        if b"one" in b"".join(chunks):
            first.set()

    answer = asyncio.ensure_future(call(*CHAT, json=chat(stream=True), streaming_callback=receive))
    await asyncio.wait_for(first.wait(), 30)
    assert b"two" not in b"".join(chunks)
    hold.set()
    done = await answer
    assert done.status == 200
    assert done.headers["Content-Type"] == "text/event-stream"
    *deltas, last, end = events(b"".join(chunks).decode())
    text = [delta["choices"][0]["delta"].get("content", "") for delta in deltas]
    assert text == ["one ", "two ", "three"]
    assert (last["choices"][0]["finish_reason"], end) == ("stop", "[DONE]")


async def test_usage_is_streamed_when_it_is_asked_for(call: Call) -> None:
    body = (await call(*CHAT, json=chat(stream=True, stream_options={"include_usage": True}))).body
    *_, usage, _ = events(body)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0


async def test_what_is_ignored_is_named(call: Call) -> None:
    for stream in (False, True):
        answer = await call(*CHAT, json=chat(temperature=0.5, seed=1, stream=stream))
        assert answer.headers["x-ccapi-ignored"] == "temperature, seed"


async def test_reasoning_effort_reaches_the_model(call: Call, model: OfflineModel) -> None:
    await call(*CHAT, json=chat(reasoning_effort="low", model="sonnet"))
    assert '"effort": "low"' in json.dumps(model.main_requests[-1].body)


class TestSilence:
    """A model that takes its time."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"keep_alive": 0.05}

    async def test_comments_keep_the_connection_before_the_first_word(
        self, call: Call, model: OfflineModel
    ) -> None:
        hold = threading.Event()
        model.script(Reply("late", hold=hold))
        received = bytearray()

        def receive(chunk: bytes) -> None:
            received.extend(chunk)
            if received.count(b": keep-alive\n\n") >= 2:
                hold.set()

        await call(*CHAT, json=chat(stream=True), streaming_callback=receive)
        assert received.count(b": keep-alive\n\n") >= 2
        assert events(received.decode())[-1] == "[DONE]"

    async def test_an_error_after_that_is_an_event_of_the_stream(
        self, call: Call, model: OfflineModel
    ) -> None:
        hold = threading.Event()
        model.script(Reply("", error=ApiError(529), hold=hold))
        received = bytearray()

        def receive(chunk: bytes) -> None:
            received.extend(chunk)
            hold.set()

        await call(*CHAT, json=chat(stream=True), streaming_callback=receive)
        (error,) = events(received.decode())
        assert error["error"]["code"] == "overloaded"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_interrupts_its_turn(
    stream: bool, app: CCApiApp, jp_serverapp: ServerApp, http_server: Any, model: OfflineModel
) -> None:
    model.script(Reply("one two three", hold=threading.Event()))
    body = json.dumps(chat(stream=stream))
    writer = await post_alone(jp_serverapp, body)
    await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
    slots = app.gateway.pool.slots
    (serving,) = [slot.process for slot in slots if slot.state == "busy" and slot.process]
    writer.close()
    await asyncio.to_thread(model.wait_for, lambda r: r.closed_early, 5)
    # Others may be started meanwhile, for whoever comes next.
    await eventually(lambda: not serving.alive)
    assert app.gateway.stats.report()["requests"]["disconnected"] == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError(400), 400, "model_refused_request"),
        (ApiError(401), 401, "not_logged_in"),
        (ApiError(403), 403, "model_forbidden"),
        (ApiError(404), 404, "model_not_found"),
        (ApiError(429, retry_after=7), 429, "rate_limit_exceeded"),
        (ApiError(500), 502, "model_error"),
        (ApiError(529), 529, "overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_models_errors_have_openais_status(
    stream: bool, error: ApiError, status: int, code: str, call: Call, model: OfflineModel
) -> None:
    # The CLI asks again in other ways after a 400 (fewer betas) and a 404 (no streaming).
    model.script(*[Reply(error=error)] * 4)
    answer = await call(*CHAT, json=chat(stream=stream))
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert answer.body["error"]["request_id"] == answer.headers["x-request-id"]


async def test_an_unknown_model_is_a_404_before_anything_is_spent(
    call: Call, model: OfflineModel
) -> None:
    answer = await call(*CHAT, json=chat(model="gpt-4o"))
    assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")
    assert answer.body["error"]["param"] == "model"
    assert model.requests == []


async def test_a_wrong_body_is_a_400_before_anything_is_started(
    call: Call, app: CCApiApp, model: OfflineModel
) -> None:
    answer = await call(*CHAT, json={"messages": [{"role": "robot", "content": "Hello"}]})
    assert (answer.status, answer.body["error"]["param"]) == (400, "messages[0].role")
    broken = await call(*CHAT, method="POST", body="{not json")
    assert broken.status == 400
    assert "not valid JSON" in broken.body["error"]["message"]
    assert app.gateway.pool.pids() == []


class TestConfigured:
    """What an administrator sets."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"model_map": {"gpt-4o": "sonnet"}, "default_model": "haiku"}

    async def test_a_mapped_name_is_answered_by_its_model(
        self, call: Call, model: OfflineModel
    ) -> None:
        answer = await call(*CHAT, json=chat(model="gpt-4o"))
        assert answer.status == 200
        assert model.main_requests[-1].body["model"].startswith("claude-sonnet")

    async def test_a_request_without_a_model_gets_the_default(
        self, call: Call, model: OfflineModel
    ) -> None:
        await call(*CHAT, json=chat())
        assert model.main_requests[-1].body["model"].startswith("claude-haiku")


class TestWithoutCLI:
    """A machine where Claude Code is not to be found."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"cli_path": "/nowhere/claude"}

    async def test_a_chat_says_what_to_do(self, call: Call) -> None:
        answer = await call(*CHAT, json=chat())
        assert answer.status == 503
        assert answer.body["error"]["code"] == "claude_code_unavailable"
        assert "the option cli_path" in answer.body["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"

    async def test_the_models_known_without_it_are_listed(self, call: Call) -> None:
        answer = await call("v1", "models")
        assert [m["id"] for m in answer.body["data"]] == ["opus", "sonnet", "haiku"]


class TestBusy:
    """One process and no queue."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"max_concurrent_sessions": 1, "max_queue": 1, "queue_deadline": 0.2}

    async def test_who_does_not_get_a_process_is_told_when_to_come_back(
        self, call: Call, model: OfflineModel
    ) -> None:
        hold = threading.Event()
        model.script(Reply("one two", hold=hold))
        served = asyncio.ensure_future(call(*CHAT, json=chat("first")))
        await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
        second, third = await asyncio.gather(
            call(*CHAT, json=chat("second")), call(*CHAT, json=chat("third"))
        )
        for refused in (second, third):
            assert (refused.status, refused.body["error"]["code"]) == (429, "server_busy")
            assert int(refused.headers["Retry-After"]) >= 1
        hold.set()
        assert (await served).status == 200


class TestNotLoggedIn:
    """No login and no key."""

    @pytest.fixture
    def ccapi_config(self, home: Any) -> dict[str, Any]:
        return {"cli_environment": {"HOME": str(home), "ANTHROPIC_API_KEY": ""}}

    async def test_a_chat_says_what_to_run(self, call: Call) -> None:
        answer = await call(*CHAT, json=chat())
        assert (answer.status, answer.body["error"]["code"]) == (401, "not_logged_in")
        assert "ANTHROPIC_API_KEY" in answer.body["error"]["message"]

    async def test_health_says_so_too(self, call: Call) -> None:
        answer = await call("health", params={"deep": "1"})
        assert (answer.status, answer.body["logged_in"]) == (503, False)


async def test_a_cli_that_is_killed_mid_stream_ends_the_stream_with_an_error(
    call: Call, app: CCApiApp, model: OfflineModel
) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    received = bytearray()
    first = asyncio.Event()

    def receive(chunk: bytes) -> None:
        received.extend(chunk)
        first.set()

    answer = asyncio.ensure_future(call(*CHAT, json=chat(stream=True), streaming_callback=receive))
    await asyncio.wait_for(first.wait(), 30)
    (pid,) = app.gateway.pool.pids()
    os.kill(pid, signal.SIGKILL)
    assert (await answer).status == 200
    hold.set()
    *_, error = events(received.decode())
    assert error["error"]["code"] == "process_died"
    assert (await call(*CHAT, json=chat("Again"))).status == 200


async def test_a_conversation_that_is_too_long_is_refused_and_never_summed_up(
    call: Call, model: OfflineModel
) -> None:
    turns = [{"role": "user", "content": "word " * 500_000}, {"role": "assistant", "content": "I"}]
    body = {"model": "haiku", "messages": [*turns, *turns, *chat()["messages"]]}
    answer = await call(*CHAT, json=body)
    assert (answer.status, answer.body["error"]["code"]) == (400, "context_length_exceeded")
    assert answer.body["error"]["param"] == "messages"
    assert model.requests == []


async def test_a_body_over_the_limit_is_a_413(call: Call) -> None:
    answer = await call(*CHAT, json=chat("x" * (33 << 20)))
    assert (answer.status, answer.body["error"]["code"]) == (413, "request_too_large")


async def test_text_that_is_no_text_reaches_the_model_as_far_as_it_can(
    call: Call, model: OfflineModel
) -> None:
    system = {"role": "system", "content": "half \ud800 a pair"}
    user = {"role": "user", "content": "nul \x00 and \udfff"}
    answer = await call(*CHAT, json={"messages": [system, user]})
    assert answer.status == 200
    assert "a pair" in model.main_requests[-1].system_text


async def test_a_failed_turn_counts_what_it_cost(call: Call, model: OfflineModel) -> None:
    """The CLI has the model go on where an answer breaks off, and gives up in the end."""
    broken = Reply("one two", error=ApiError(529), input_tokens=100)
    model.script(*[broken] * 12)
    answer = await call(*CHAT, json=chat())
    assert answer.status >= 500
    figures = (await call("stats")).body
    assert figures["tokens"]["prompt"] > 0
    assert figures["cost_usd"] > 0
