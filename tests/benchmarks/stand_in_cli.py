"""A stand-in for the Claude Code CLI that costs next to nothing: what is left is the gateway.

Run it as `python -I -S stand_in_cli.py` (it starts in a few milliseconds). It speaks as much
stream-json as a turn needs, with messages of the size of the real ones, and answers every prompt
with 100 text deltas in one write.
"""

import json
import sys
from typing import Any

DELTAS = 100

SESSION = "7a1df533-fdae-46b6-bef7-8fd0b510cfde"
# Stands where the prompt's own id goes.
PROMPT = "00000000-0000-0000-0000-000000000000"
USAGE = {
    "input_tokens": 258,
    "cache_creation_input_tokens": 58,
    "cache_read_input_tokens": 0,
    "output_tokens": DELTAS,
}
WORDS = [f"word{number} " for number in range(1, DELTAS + 1)]
BLOCK = {"type": "text", "text": "".join(WORDS)}
MESSAGE: dict[str, Any] = {
    "id": "msg_cbaed2765fd74ea1bd192667",
    "type": "message",
    "role": "assistant",
    "model": "claude-stand-in",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": USAGE,
}
ABOUT = {"user_message_uuid": PROMPT, "user_message_uuids": [PROMPT]}


def stream_event(event: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event of the model's stream, wrapped as the CLI does."""
    return {
        "type": "stream_event",
        "event": event,
        "session_id": SESSION,
        "parent_tool_use_id": None,
        "uuid": "4c32e0f4-3964-468d-a55f-ff3ee5efa5ef",
        "api_message_id": MESSAGE["id"],
        **more,
    }


def delta(text: str) -> dict[str, Any]:
    """One word."""
    word = {"type": "text_delta", "text": text}
    return stream_event({"type": "content_block_delta", "index": 0, "delta": word})


def result(text: str, turns: int) -> dict[str, Any]:
    """The end of a turn."""
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "duration_ms": 1,
        "duration_api_ms": 1,
        "num_turns": turns,
        "result": text,
        "stop_reason": "end_turn" if turns else None,
        "terminal_reason": "completed",
        "session_id": SESSION,
        "total_cost_usd": 0.001,
        "usage": USAGE,
        "permission_denials": [],
        "uuid": "9de1b0a0-edb0-42f8-b82a-b385eba38bdd",
        **ABOUT,
    }


def state(name: str) -> dict[str, Any]:
    """Whether the CLI is at work."""
    return {
        "type": "system",
        "subtype": "session_state_changed",
        "state": name,
        "uuid": "fb5d4940-f5bf-4c3b-a022-ca14e0f86a17",
        "session_id": SESSION,
    }


def init() -> dict[str, Any]:
    """The beginning of a turn."""
    return {
        "type": "system",
        "subtype": "init",
        "session_id": SESSION,
        "tools": [],
        "mcp_servers": [],
        "model": "claude-stand-in",
        "permissionMode": "dontAsk",
        "slash_commands": [],
        "apiKeySource": "ANTHROPIC_API_KEY",
        "uuid": "b375059f-c070-4e59-8ecf-f0b44966b1a9",
        "user_message_uuids": [PROMPT],
    }


def lines(*messages: dict[str, Any]) -> bytes:
    """Messages as they are printed."""
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in messages)


ANSWER = lines(
    state("running"),
    init(),
    stream_event({"type": "message_start", "message": MESSAGE}, ttft_ms=1, **ABOUT),
    stream_event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    ),
    *[delta(word) for word in WORDS],
    {
        "type": "assistant",
        "message": {**MESSAGE, "content": [BLOCK]},
        "parent_tool_use_id": None,
        "session_id": SESSION,
        "uuid": "2eb278c3-b88f-4b9a-8de0-35cebccc7131",
        **ABOUT,
    },
    stream_event({"type": "content_block_stop", "index": 0}),
    stream_event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": USAGE,
        }
    ),
    stream_event({"type": "message_stop"}),
    result(BLOCK["text"], 1),
    state("idle"),
)
# To a prompt that only becomes part of the history.
NOTED = lines(state("running"), init(), result("", 0), state("idle"))


def reply(message: dict[str, Any]) -> bytes:
    """What is printed to a message, if anything."""
    if message["type"] == "user":
        answer = ANSWER if message.get("shouldQuery", True) else NOTED
        return answer.replace(PROMPT.encode(), str(message.get("uuid") or PROMPT).encode())
    if message["type"] == "control_request":
        done = {"rewound": True} if "rewind" in message["request"]["subtype"] else {}
        answered = {"subtype": "success", "request_id": message["request_id"], "response": done}
        return lines({"type": "control_response", "response": answered})
    return b""


def main() -> None:
    """Serve until the input ends."""
    if "--version" in sys.argv:
        print("0.0.0 (Claude Code)")
        return
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(reply(json.loads(line)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
