"""What a turn says to the clients of a session: Claude Code's own words, message by message.

The CLI tells a message in pieces: stream events of the Messages API as the model writes, and an
``assistant`` line for each block that is complete, all before the event ``message_stop`` (CLI
2.1.330). Clients get the stream events, and the whole message once, at its end.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude import plain_name
from jupyter_ccapi.claude.edits import made

#: What is told to clients: plain JSON with a ``type``.
Told = dict[str, Any]


class Speech:
    """Turns what the CLI says in one turn into events; files are named as seen from ``folder``.
    ``denied`` are the calls that a person did not want.
    """

    def __init__(self, folder: Path) -> None:
        self.denied: set[str] = set()
        self._folder = folder
        self._message: dict[str, Any] | None = None
        self._whole: list[dict[str, Any]] = []
        self._written: dict[int, dict[str, Any]] = {}
        self._names: dict[str, str] = {}

    def hear(self, message: Mapping[str, Any]) -> Iterator[Told]:
        """Yield what this message of the CLI's means."""
        parent = message.get("parent_tool_use_id")
        match message:
            case {"type": "stream_event", "event": {"type": str()} as event} if parent is None:
                if isinstance(block := event.get("content_block"), dict):
                    event = {**event, "content_block": _plain(block)}
                yield {"type": "stream_event", "event": event, "parent_tool_use_id": None}
                if self._write(event):
                    yield from self.end()
            case {"type": "assistant", "message": {"content": list(blocks)} as whole}:
                yield from self._piece(whole, [_plain(block) for block in blocks], parent)
            case {"type": "user", "message": {"content": list(blocks)}}:
                about = message.get("tool_use_result") if len(blocks) == 1 else None
                for block in blocks:
                    if isinstance(block, dict) and block.get("type") == "tool_result":
                        yield self._result(block, about, parent)
            case {"type": "tool_progress", "tool_use_id": str(id)}:
                seconds = message.get("elapsed_time_seconds")
                yield self._progress(id, "running", parent, elapsed_time_seconds=seconds)

    def end(self) -> Iterator[Told]:
        """Yield the message that is under way, as far as it has come: the turn is over."""
        message, whole = self._message, self._whole
        written = [_finished(block) for _, block in sorted(self._written.items())]
        self._message, self._whole, self._written = None, [], {}
        if message is None:
            return
        told = {**message, "content": whole}
        if message["stop_reason"] is not None and len(whole) >= len(written):
            yield {"type": "assistant", "message": told, "parent_tool_use_id": None}
            return
        # It was broken off: what is there of its last block is told, too.
        told["content"] = [*whole, *(block for block in written[len(whole) :] if block)]
        yield {"type": "assistant", "message": told, "parent_tool_use_id": None, "partial": True}

    def _write(self, event: Mapping[str, Any]) -> bool:
        """Take note of a stream event; True at the end of a message."""
        match event:
            case {"type": "message_start", "message": dict(started)}:
                keys = ("id", "type", "role", "model", "usage")
                self._message = {key: started.get(key) for key in keys} | {"stop_reason": None}
                self._whole, self._written = [], {}
            case {"type": "content_block_start", "index": int(index), "content_block": dict(block)}:
                self._written[index] = dict(block)
            case {"type": "content_block_delta", "index": int(index), "delta": dict(delta)}:
                _extend(self._written.setdefault(index, {}), delta)
            case {"type": "message_delta", "delta": dict(delta)} if self._message is not None:
                self._message["stop_reason"] = delta.get("stop_reason")
                usage = {**(self._message["usage"] or {}), **(event.get("usage") or {})}
                self._message["usage"] = usage
            case {"type": "message_stop"}:
                return True
        return False

    def _piece(
        self, whole: Mapping[str, Any], blocks: list[dict[str, Any]], parent: str | None
    ) -> Iterator[Told]:
        streams = self._message is not None and self._message["id"] == whole.get("id")
        if parent is None and streams:
            self._whole += blocks
        else:
            # Of a sub-agent's nothing is streamed, nor where the CLI has asked for all at once.
            told = {**whole, "content": blocks}
            yield {"type": "assistant", "message": told, "parent_tool_use_id": parent}
        for block in blocks:
            if block.get("type") == "tool_use":
                self._names[str(block.get("id"))] = str(block.get("name"))
                yield self._progress(str(block.get("id")), "running", parent)

    def _result(self, block: Mapping[str, Any], about: Any, parent: str | None) -> Told:
        id = str(block.get("tool_use_id"))
        status = "failed" if block.get("is_error") else "completed"
        more = {"content": block.get("content"), "diff": made(about, self._folder)}
        return self._progress(id, "denied" if id in self.denied else status, parent, **more)

    def _progress(self, id: str, status: str, parent: str | None, **more: Any) -> Told:
        told: Told = {"type": "tool_progress", "tool_use_id": id}
        told["tool_name"] = self._names.get(id)
        told |= {"status": status, "parent_tool_use_id": parent}
        told |= {name: value for name, value in more.items() if value is not None}
        return told


def _plain(block: Any) -> dict[str, Any]:
    """A block with a tool of the caller's called by its own name."""
    plain: dict[str, Any] = dict(block) if isinstance(block, Mapping) else {"type": "unknown"}
    if plain.get("type") == "tool_use":
        plain["name"] = plain_name(str(plain.get("name"))) or plain.get("name")
    return plain


def _extend(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    match delta:
        case {"text": str(text)}:
            block["text"] = block.get("text", "") + text
        case {"thinking": str(text)}:
            block["thinking"] = block.get("thinking", "") + text
        case {"partial_json": str(text)}:
            block["_json"] = block.get("_json", "") + text


def _finished(block: dict[str, Any]) -> dict[str, Any] | None:
    """What was written of a block; a call that was not written to its end was none."""
    written = block.pop("_json", None)
    if block.get("type") != "tool_use":
        return block if block.get("text") or block.get("thinking") else None
    try:
        return {**block, "input": json.loads(written)} if written else block
    except ValueError:
        return None
