"""What a conversation holds: its messages, and how two histories are found to be the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

#: The CLI's tool by which the model gives an answer that fulfils a schema.
STRUCTURED = "StructuredOutput"

#: Text, or Anthropic content blocks.
Content = str | list[dict[str, Any]]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: Content

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The content as blocks."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}]
        return self.content

    @property
    def is_prompt(self) -> bool:
        """Whether a turn begins with it: the results of tools go on with one."""
        results = any(block.get("type") == "tool_result" for block in self.blocks)
        return self.role == "user" and not results

    @cached_property
    def digest(self) -> bytes:
        """The same for all forms of the same message: text or one block of text, cache marks or
        none.
        """
        told = json.dumps([self.role, _plain(self.blocks)], sort_keys=True)
        return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Held:
    """A message that a process holds. ``uuid`` is the CLI's name for it, where we know one: the
    history can be cut back to before a prompt that has one.
    """

    message: Message
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a process is to hold: the CLI's session with this id, as far as there is one.

    ``history`` are all messages of it, None where they are known to the CLI's transcript alone
    (after a turn that did not end well). ``known`` says that there must be a transcript. Without
    ``persist`` nothing of it is kept.
    """

    id: str
    history: Sequence[Message] | None = ()
    persist: bool = True
    known: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """How a process comes to hold a history: the first ``keep`` of its messages stay, what comes
    after them is cut off at the prompt ``cut`` (None: nothing is), and the history's rest is added.
    """

    keep: int
    cut: str | None
    prompts_to_add: int


def way_to(held: Sequence[Held], history: Sequence[Message]) -> Way | None:
    """The way from what a process holds to a history; None where it cannot be cut back so far."""
    keep = common_length([one.message for one in held], history)
    cut: str | None = None
    if keep < len(held):
        while not (held[keep].uuid and held[keep].message.is_prompt):
            keep -= 1
            if keep < 0:
                return None
        cut = held[keep].uuid
    return Way(keep, cut, sum(message.role == "user" for message in history[keep:]))


def settle(history: Sequence[Message], content: Content) -> tuple[list[Message], Content]:
    """Put a history and the prompt after it in the order that the model's API demands: what the
    user says in a row is one message, nothing is empty, every tool call has a result.

    The CLI would see to that itself, differently for a history that it resumes and for one that
    is added to it: between two users it would have the assistant say "No response requested.".
    """
    merged: list[Message] = []
    for message in (*history, Message("user", content)):
        blocks = [block for block in message.blocks if not _is_empty(block)]
        if len(blocks) < len(message.blocks):
            message = Message(message.role, blocks)
        if merged and merged[-1].role == message.role == "user":
            merged[-1] = Message("user", [*merged[-1].blocks, *blocks])
        elif blocks:
            merged.append(message)
    settled: list[Message] = []
    for message in merged:
        missing = _results_missing(settled[-1], message) if settled else []
        if missing and message.role == "user":
            message = Message("user", [*missing, *message.blocks])
        elif missing:
            settled.append(Message("user", missing))
        settled.append(message)
    prompt = settled.pop()
    return settled, prompt.content


def as_said(messages: Sequence[Message]) -> list[Message]:
    """These messages with structured answers as the text that they are, and not as calls of a tool
    that another process may not have.
    """
    answers: set[str] = set()
    said: list[Message] = []
    for message in messages:
        blocks = []
        for block in message.blocks:
            if block.get("type") == "tool_use" and block.get("name") == STRUCTURED:
                answers.add(str(block.get("id")))
                blocks.append(
                    {"type": "text", "text": json.dumps(block.get("input"), ensure_ascii=False)}
                )
            elif block.get("tool_use_id") not in answers:
                blocks.append(block)
        if blocks:
            said.append(message if blocks == message.blocks else Message(message.role, blocks))
    return said


def split_open(history: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """The part of a settled history that is complete, and the turn that waits for its tools."""
    if not history or not _calls(history[-1]):
        return history, ()
    begin = max((index for index, message in enumerate(history) if message.is_prompt), default=0)
    return history[:begin], history[begin:]


def common_length(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages two histories begin with in common."""
    length = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours.digest != theirs.digest:
            break
        length += 1
    return length


def _is_empty(block: dict[str, Any]) -> bool:
    return block.get("type") == "text" and not block.get("text")


def _calls(message: Message) -> list[str]:
    """The ids of the tool calls in a message."""
    return [str(block.get("id")) for block in message.blocks if block.get("type") == "tool_use"]


def _results_missing(before: Message, message: Message) -> list[dict[str, Any]]:
    """Results for the calls of the message before that this one does not answer."""
    given = {block.get("tool_use_id") for block in message.blocks}
    return [
        {
            "type": "tool_result",
            "tool_use_id": call,
            "content": "No result was recorded for this call.",
            "is_error": True,
        }
        for call in _calls(before)
        if call not in given
    ]


def _plain(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks without what makes no difference to the model."""
    plain = []
    for given in blocks:
        block = {name: value for name, value in given.items() if name != "cache_control"}
        if block.get("type") == "tool_result":
            content = block.get("content") or ""
            text = [{"type": "text", "text": content}] if isinstance(content, str) else content
            block["content"] = _plain(text)
            block["is_error"] = bool(block.get("is_error"))
        plain.append(block)
    return plain


def is_blank(content: Content) -> bool:
    """Whether there is neither text nor anything else in a prompt."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return all(b.get("type") == "text" and not str(b.get("text") or "").strip() for b in blocks)


def words_of(content: Content) -> str:
    """What a person has written of a prompt: what goes with it stands before that."""
    if isinstance(content, str):
        return content
    texts = [str(block.get("text")) for block in content if block.get("type") == "text"]
    return texts[-1] if texts else ""
