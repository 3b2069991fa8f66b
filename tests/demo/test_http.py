"""The offline model speaks Anthropic's Messages API."""

import json
import threading
from http.client import IncompleteRead, RemoteDisconnected
from typing import Any

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply, ToolCall
from jupyter_ccapi.demo.log import KEPT
from tests.demo.http_client import MESSAGES, Client, asked


def test_a_stream_has_anthropics_events_in_their_order(http: Client, model: OfflineModel) -> None:
    model.script(
        Reply(
            "One two.", thinking="Hm.", tools=[ToolCall("Read", {"file_path": "/a/long/path.txt"})]
        )
    )
    stream = list(http.stream(asked("Go")))

    assert [event["type"] for event in stream] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = stream[0]["message"]
    assert start["role"] == "assistant"
    assert start["model"] == "claude-test"
    assert start["content"] == []
    assert start["stop_reason"] is None
    deltas = [event["delta"] for event in stream if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == [
        "thinking_delta",
        "signature_delta",
        "text_delta",
        "text_delta",
        "input_json_delta",
        "input_json_delta",
    ]
    assert "".join(d.get("text", "") for d in deltas) == "One two."
    assert "".join(d.get("partial_json", "") for d in deltas) == '{"file_path": "/a/long/path.txt"}'
    assert stream[-2]["delta"]["stop_reason"] == "tool_use"
    assert stream[-2]["usage"]["output_tokens"] > start["usage"]["output_tokens"]
    assert model.requests[0].chunks_sent == len(stream)


def test_without_a_stream_the_whole_message_comes_at_once(
    http: Client, model: OfflineModel
) -> None:
    model.script(Reply("One two.", tools=[("Read", {"file_path": "/a"})], stop_reason="max_tokens"))
    message = http.message(asked("Go"))
    assert message["content"][0] == {"type": "text", "text": "One two."}
    assert message["content"][1]["name"] == "Read"
    assert message["content"][1]["input"] == {"file_path": "/a"}
    assert message["stop_reason"] == "max_tokens"


def test_texts_lose_nothing_on_their_way_in_words(http: Client, model: OfflineModel) -> None:
    text = "  Indented,\n\n```python\nif x:\n    y  =  'é→😀'\n```\n "
    model.script(Reply(text))
    stream = list(http.stream(asked("Go")))
    assert "".join(event.get("delta", {}).get("text", "") for event in stream) == text


def test_the_same_text_counts_the_same_tokens(http: Client, model: OfflineModel) -> None:
    first = http.message(asked("How long?"))["usage"]
    again = http.message(asked("How long?"))["usage"]
    longer = http.message(asked("How long? " * 100))["usage"]
    assert first == again
    assert longer["input_tokens"] - first["input_tokens"] == pytest.approx(250, abs=5)
    assert first["cache_read_input_tokens"] == first["cache_creation_input_tokens"] == 0


def test_what_was_said_before_counts_as_read_from_the_cache(
    http: Client, model: OfflineModel
) -> None:
    cached = [{"type": "text", "text": "x" * 4000, "cache_control": {"type": "ephemeral"}}]
    body = asked("One", system=cached)
    first = http.message(body)["usage"]
    body["messages"] += [
        {"role": "assistant", "content": "y" * 400},
        {"role": "user", "content": "Two"},
    ]
    second = http.message(body)["usage"]
    assert first["cache_creation_input_tokens"] >= 1000
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_creation_input_tokens"] == 0
    assert second["cache_read_input_tokens"] >= 1100
    assert second["input_tokens"] < 20


def test_scripted_token_counts_replace_the_derived_ones(http: Client, model: OfflineModel) -> None:
    model.script(
        Reply(
            "Yes.",
            input_tokens=1,
            output_tokens=2,
            cache_read_input_tokens=3,
            cache_creation_input_tokens=4,
        )
    )
    assert http.message(asked("Go"))["usage"] == {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
    }


def test_scripted_replies_come_in_order_and_then_directives_are_read_again(
    http: Client,
    model: OfflineModel,
) -> None:
    model.script(Reply("One."), Reply("Two."))
    texts = [http.message(asked("[[say Three.]]"))["content"][0]["text"] for _ in range(3)]
    assert texts == ["One.", "Two.", "Three."]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(asked("quota", max_tokens=1), id="probe"),
        pytest.param(
            asked(
                "<session>\nHello\n</session>",
                tools=[],
                output_config={
                    "format": {
                        "type": "json_schema",
                        "schema": {
                            "type": "object",
                            "properties": {"title": {"type": "string"}},
                            "required": ["title"],
                        },
                    }
                },
            ),
            id="title",
        ),
        pytest.param(
            asked("CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."), id="summary"
        ),
    ],
)
def test_side_requests_are_answered_beside_the_script(
    body: dict[str, Any], http: Client, model: OfflineModel
) -> None:
    model.script(Reply("From the script."))
    aside = http.message(body)["content"][0]["text"]
    main = http.message(asked("Hello"))["content"][0]["text"]
    assert aside != "From the script."
    assert main == "From the script."
    assert [request.side for request in model.requests] == [True, False]


def test_a_title_that_the_cli_asks_for_is_the_json_that_it_wants(
    http: Client, model: OfflineModel
) -> None:
    schema = {"properties": {"title": {"type": "string"}}, "required": ["title"]}
    body = asked("Name it", output_config={"format": {"type": "json_schema", "schema": schema}})
    message = http.message(body)
    assert message["content"][0]["text"] == '{"title": "offline demo"}'


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "rate"}, {"type": "any"}])
def test_a_forced_tool_is_called_with_what_its_schema_asks_for(
    choice: dict[str, str], http: Client, model: OfflineModel
) -> None:
    schema = {"type": "object", "properties": {"n": {"minimum": 2}}, "required": ["n"]}
    tools = [{"name": "rate", "input_schema": schema}]
    body = asked("Rate it", tools=tools, tool_choice=choice)
    message = http.message(body)
    assert [(block["name"], block["input"]) for block in message["content"]] == [("rate", {"n": 2})]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_has_anthropics_shape(
    status: int, kind: str, http: Client, model: OfflineModel
) -> None:
    model.script(Reply(error=ApiError(status, message="As you wished.", retry_after=1.5)))
    response = http.send("POST", MESSAGES, asked("Go", stream=True))
    assert response.status == status
    assert response.headers["Retry-After"] == "1.5"
    assert response.headers["request-id"].startswith("req_")
    assert json.loads(response.read()) == {
        "type": "error",
        "error": {"type": kind, "message": "As you wished."},
    }
    assert model.requests[0].status == status


def test_an_error_after_some_words_comes_in_mid_stream(http: Client, model: OfflineModel) -> None:
    model.script(Reply("One two.", error=ApiError(529)))
    stream = list(http.stream(asked("Go")))
    assert [event["type"] for event in stream][-3:] == [
        "content_block_delta",
        "content_block_stop",
        "error",
    ]
    assert stream[-1]["error"]["type"] == "overloaded_error"


def test_scripted_headers_reach_the_client(http: Client, model: OfflineModel) -> None:
    model.script(Reply("Yes.", headers={"anthropic-ratelimit-unified-status": "allowed"}))
    response = http.send("POST", MESSAGES, asked("Go"))
    assert response.headers["anthropic-ratelimit-unified-status"] == "allowed"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{not json", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": "x"}', "messages"),
    ],
)
@pytest.mark.parametrize("path", [MESSAGES, "/v1/messages/count_tokens"])
def test_a_body_that_is_no_request_is_a_400_that_says_why(
    path: str, body: bytes, says: str, http: Client, model: OfflineModel
) -> None:
    status, answer = http.call("POST", path, body)
    assert status == 400
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
    assert says in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("POST", "/v2/messages", 404), ("GET", MESSAGES, 405)],
)
def test_what_is_not_there_is_refused_in_anthropics_shape(
    method: str, path: str, status: int, http: Client, model: OfflineModel
) -> None:
    refused, answer = http.call(method, path)
    assert refused == status
    assert answer["type"] == "error"
    assert answer["error"]["message"]


def test_tokens_are_counted_on_request(http: Client, model: OfflineModel) -> None:
    path = "/v1/messages/count_tokens"
    assert http.call("POST", path, asked("x" * 4000)) == (200, {"input_tokens": 1004})
    assert model.requests[0].path == path
    assert model.requests[0].side


def test_models_are_listed(http: Client, model: OfflineModel) -> None:
    status, page = http.call("GET", "/v1/models")
    assert status == 200
    assert all(entry["id"].startswith("claude-") for entry in page["data"])
    assert page["has_more"] is False


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_root_says_that_the_server_is_there(
    method: str, http: Client, model: OfflineModel
) -> None:
    assert http.send(method, "/").status == 200


def test_the_log_can_be_read_and_emptied_over_http(http: Client, model: OfflineModel) -> None:
    http.call("POST", MESSAGES + "?beta=true", asked("[[say Hi.]]"))
    status, log = http.call("GET", "/log")
    assert status == 200
    assert log[0]["path"] == MESSAGES
    assert log[0]["body"] == asked("[[say Hi.]]")
    assert log[0]["user_text"] == "[[say Hi.]]"
    assert log[0]["finished"] is True
    assert log[0]["closed_early"] is False
    assert http.call("DELETE", "/log") == (204, None)
    assert http.call("GET", "/log") == (200, [])
    assert model.requests == []


def test_a_held_answer_pauses_after_its_first_word(http: Client, model: OfflineModel) -> None:
    go_on = threading.Event()
    model.script(Reply("One two three.", hold=go_on))
    stream = http.stream(asked("Go"))
    seen = [next(stream) for _ in range(4)]
    assert seen[-1]["delta"]["text"] == "One "
    request = model.wait_for(lambda request: request.held)
    assert not request.finished
    go_on.set()
    assert [event.get("delta", {}).get("text") for event in stream][:2] == ["two ", "three."]
    model.wait_for(lambda request: request.finished)


def test_a_held_answer_is_released_over_http(http: Client, model: OfflineModel) -> None:
    stream = http.stream(asked("[[words 3]] [[hold]]"))
    next(stream)
    model.wait_for(lambda request: request.held)
    assert http.call("POST", "/release") == (200, {"released": 1})
    assert [event["type"] for event in stream][-1] == "message_stop"
    assert http.call("POST", "/release") == (200, {"released": 0})


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("text", ["[[words 9]] [[hold]]", "[[words 9]] [[delay 50]]"])
def test_a_client_that_leaves_is_noticed(
    text: str, streamed: bool, http: Client, model: OfflineModel
) -> None:
    connection = http.open("POST", MESSAGES, asked(text, stream=streamed))
    model.wait_for(lambda request: request.status == 200)
    connection.close()
    request = model.wait_for(lambda request: request.closed_early)
    assert not request.finished


def test_a_long_answer_without_delays_notices_it_too(http: Client, model: OfflineModel) -> None:
    connection = http.open("POST", MESSAGES, asked("[[words 100000]]", stream=True))
    model.wait_for(lambda request: request.chunks_sent > 10)
    connection.close()
    request = model.wait_for(lambda request: request.closed_early or request.finished)
    assert request.closed_early
    assert request.chunks_sent < 100_000


@pytest.mark.parametrize("streamed", [True, False])
def test_a_dropped_answer_ends_before_its_end(
    streamed: bool, http: Client, model: OfflineModel
) -> None:
    model.script(Reply("One two three.", drop=True))
    if streamed:
        with pytest.raises(IncompleteRead):
            http.send("POST", MESSAGES, asked("Go", stream=True)).read()
    else:
        with pytest.raises(RemoteDisconnected):
            http.send("POST", MESSAGES, asked("Go"))
    assert model.requests[0].closed_early


def test_the_log_forgets_the_oldest_requests(http: Client, model: OfflineModel) -> None:
    path = "/v1/messages/count_tokens"
    connection = http.open("POST", path, json.dumps(asked("The first")).encode())
    connection.getresponse().read()
    for _ in range(KEPT):
        connection.request("POST", path, json.dumps(asked("Another")))
        connection.getresponse().read()
    assert len(model.requests) == KEPT
    assert model.requests[0].user_text == "Another"


def test_a_wait_in_vain_tells_what_came(http: Client, model: OfflineModel) -> None:
    http.call("POST", MESSAGES, asked("Only this"))
    with pytest.raises(TimeoutError, match="Only this"):
        model.wait_for(lambda request: request.images, timeout=0.01)
