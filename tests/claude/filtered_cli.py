"""The real Claude Code CLI behind a filter that takes one of its unpromised abilities away.

Run as `python filtered_cli.py FAULT CLI …`. The FAULT is one of the functions at the bottom: it
gets each line of standard input as a message, and says what the CLI gets to read in its place;
None is nothing.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]


def say(message: Message) -> None:
    """Print a message of our own."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request: Message, **response: Any) -> None:
    """Answer a control request in the CLI's place."""
    told = {"subtype": "success", "request_id": request["request_id"], "response": response}
    say({"type": "control_response", "response": told})


def asked(message: Message) -> Message:
    """The control request in a message, or nothing."""
    request: Message = message.get("request") or {}
    return request


def without(*fields: str) -> Callable[[Message], Message | None]:
    """Take fields out of the control requests."""

    def change(message: Message) -> Message | None:
        for field in fields:
            asked(message).pop(field, None)
        return message

    return change


def dies_at_a_schema(message: Message) -> Message | None:
    """End when a schema comes at initialize."""
    if "jsonSchema" in asked(message):
        os._exit(7)
    return message


def forgets_histories(message: Message) -> Message | None:
    """Say that what was to be added was, and add nothing."""
    if message["type"] == "assistant":
        return None
    if message.get("shouldQuery") is not False:
        return message
    counts = {"duration_ms": 1, "duration_api_ms": 0, "num_turns": 0}
    say(
        {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "session_id": "s",
            "user_message_uuid": message["uuid"],
            **counts,
        }
    )
    return None


def hangs_at_histories(message: Message) -> Message | None:
    """Say nothing any more once a prompt is to be added only."""
    if message.get("shouldQuery") is False:
        time.sleep(600)
    return message


def forgets_to_cut(message: Message) -> Message | None:
    """Say that the conversation was cut back, and leave it as it is."""
    if asked(message).get("subtype") != "rewind_conversation":
        return message
    answer(message, rewound=True)
    return None


def ignores_settings(message: Message) -> Message | None:
    """Say that settings were applied, and leave everything as it is."""
    if asked(message).get("subtype") != "apply_flag_settings":
        return message
    answer(message)
    return None


FAULTS: dict[str, Callable[[Message], Message | None]] = {
    "ignores the system prompt": without("systemPrompt"),
    "ignores the appended prompt": without("appendSystemPrompt"),
    "dies at a schema": dies_at_a_schema,
    "forgets histories": forgets_histories,
    "hangs at histories": hangs_at_histories,
    "forgets to cut": forgets_to_cut,
    "ignores settings": ignores_settings,
    # It rewinds in earnest, and says so in the same words.
    "rewinds in a preview": without("dry_run"),
}


def main(fault: str, *command: str) -> int:
    """Run the CLI to its end, and return its exit code."""
    if "--output-format" not in command:
        return subprocess.run(command, check=False).returncode
    cli = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert cli.stdin is not None
    incoming = cli.stdin

    def pump() -> None:
        for line in sys.stdin:
            message = FAULTS[fault](json.loads(line))
            if message is not None:
                incoming.write(json.dumps(message).encode() + b"\n")
                incoming.flush()
        incoming.close()

    threading.Thread(target=pump, daemon=True).start()
    return cli.wait()


if __name__ == "__main__":
    # Not by sys.exit: the thread may be waiting for input still.
    os._exit(main(sys.argv[1], *sys.argv[2:]))
