"""What a conversation holds: its messages, and how two histories are found to be the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

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


def common_length(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages two histories begin with in common."""
    length = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours.digest != theirs.digest:
            break
        length += 1
    return length


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
