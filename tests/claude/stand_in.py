"""A stand-in for the Claude Code CLI, for the faults that the real one will not give.

Run as `python stand_in.py FAULT …`. It speaks as much stream-json as a turn needs: it answers
`initialize` and interrupts, and says one word to every prompt. Its FAULT is one of the functions at
the bottom, or `none`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def say(message: dict[str, Any]) -> None:
    """Print one message."""
    print(json.dumps(message), flush=True)


def heard() -> Iterator[dict[str, Any]]:
    """What the other side sends, until it hangs up."""
    for line in sys.stdin:
        yield json.loads(line)


def acknowledge(request: dict[str, Any], **response: Any) -> None:
    """Answer a control request."""
    answer = {"subtype": "success", "request_id": request["request_id"], "response": response}
    say({"type": "control_response", "response": answer})


def begin(word: str) -> None:
    """Take a prompt up and say a first word."""
    say({"type": "system", "subtype": "init", "model": "claude-stand-in", "session_id": "s"})
    for event in (
        {"type": "message_start", "message": {"id": "m", "model": "claude-stand-in"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}},
    ):
        say({"type": "stream_event", "uuid": "u", "session_id": "s", "event": event})


def end(reason: str = "completed") -> None:
    """End the turn."""
    say(
        {
            "type": "result",
            "subtype": "success",
            "duration_ms": 1,
            "duration_api_ms": 1,
            "is_error": False,
            "num_turns": 1,
            "session_id": "s",
            "terminal_reason": reason,
        }
    )


def serve(answer: Callable[[], None] | None = None, *, interrupts: str = "obeyed") -> None:
    """Serve turns; `answer` stands in place of the one word and the end. Interrupts are obeyed,
    answered or ignored.
    """
    for message in heard():
        if message["type"] == "user":
            begin("word")
            if answer is None:
                end()
            else:
                answer()
        elif message["type"] == "control_request":
            stop = message["request"]["subtype"] == "interrupt"
            if not (stop and interrupts == "ignored"):
                acknowledge(message)
            if stop and interrupts == "obeyed":
                end("aborted_streaming")


def remembers(*, controls: bool = True, histories: bool = True) -> None:
    """Serve turns, saying each answer once more as a whole, so that it is known what is held. No
    history is ever cut. Without `controls` no control request is answered after `initialize`,
    without `histories` no prompt that is not to be answered.
    """
    content = [{"type": "text", "text": "word"}]
    whole = {"id": "m", "role": "assistant", "model": "claude-stand-in", "content": content}
    for message in heard():
        if message["type"] == "user" and message.get("shouldQuery", True):
            begin("word")
            say({"type": "assistant", "message": whole, "session_id": "s"})
            end()
        elif message["type"] == "user" and histories:
            end()
        elif message["type"] == "control_request" and (
            controls or message["request"]["subtype"] == "initialize"
        ):
            acknowledge(message, rewound=False, reason="this one forgets nothing")


def goes_on() -> None:
    """Never end a turn."""


def busy() -> None:
    """Never end a turn, nor read on in it."""

    def answer() -> None:
        while True:
            time.sleep(60)

    serve(answer)


def exits() -> None:
    """End before anything was said."""
    print("stand-in: there is no room here", file=sys.stderr)
    sys.exit(3)


def silent() -> None:
    """Never answer anything."""
    print("stand-in: thinking", file=sys.stderr, flush=True)
    for _ in heard():
        pass


def sleeps() -> None:
    """Come up and then read nothing any more."""
    for message in heard():
        acknowledge(message)
        break
    while True:
        time.sleep(60)


def garbage() -> None:
    """Print what looks like a message and is none."""
    print("a greeting", flush=True)
    print('{"type": "control_response", "respo', flush=True)
    silent()


def leaves_a_child() -> None:
    """Die in the middle of a turn; a child holds the pipes open."""

    def answer() -> None:
        held = {"stdin": subprocess.DEVNULL, "start_new_session": True}
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], **held)  # type: ignore[call-overload]
        os.kill(os.getpid(), signal.SIGKILL)

    serve(answer)


def immortal() -> None:
    """Serve, and end neither at the end of the input nor when told to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve()
    while True:
        time.sleep(60)


def counted() -> None:
    """Serve; write `+` to the file that STAND_IN_FILE names at the beginning, `-` at the end."""
    with Path(os.environ["STAND_IN_FILE"]).open("a", buffering=1) as log:
        log.write("+")
        log.flush()
        serve()
        log.write("-")


def tells() -> None:
    """Write environment and command line to the file that STAND_IN_FILE names, then serve."""
    told = {"environment": dict(os.environ), "arguments": sys.argv[2:]}
    Path(os.environ["STAND_IN_FILE"]).write_text(json.dumps(told))
    serve()


FAULTS: dict[str, Callable[[], None]] = {
    "none": serve,
    "busy": busy,
    "endless": lambda: serve(goes_on),
    "stubborn": lambda: serve(goes_on, interrupts="answered"),
    "deaf": lambda: serve(goes_on, interrupts="ignored"),
    "exits": exits,
    "silent": silent,
    "sleeps": sleeps,
    "garbage": garbage,
    "leaves a child": leaves_a_child,
    "immortal": immortal,
    "forgets nothing": remembers,
    "hears no control": lambda: remembers(controls=False),
    "takes no history": lambda: remembers(histories=False),
    "counted": counted,
    "tells": tells,
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
