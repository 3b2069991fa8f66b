"""What a request adds to a conversation that is known here.

Some clients send only what is new, others the whole conversation each time, with or without its
id; some cut its beginning off or edit it. What they send is compared with what they have seen of
the conversation: Claude Code's own tools are no part of that.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from jupyter_ccapi.claude import Message, plain_name
from jupyter_ccapi.claude.history import common_length

from .fields import in_turns


def visible(messages: Sequence[Message]) -> list[Message]:
    """A conversation as its client has seen it."""
    return [message for message, _ in _seen(messages)]


def fingerprint(messages: Sequence[Message]) -> bytes:
    """The same for two conversations whose clients have seen the same."""
    digest = hashlib.blake2b(digest_size=16)
    for message in visible(messages):
        digest.update(message.digest)
    return digest.digest()


def continuation(known: Sequence[Message], sent: Sequence[Message]) -> tuple[int, list[Message]]:
    """How many messages of the known conversation stay, and what is new after them.

    A client that sends all of it again is not told twice; one that has edited what it sends goes
    on from there, without what it had said else.
    """
    seen = _seen(known)
    shown = [message for message, _ in seen]
    # Their last message is the prompt, and new in any case.
    theirs = visible(sent)[:-1]
    common = common_length(shown, theirs)
    if common == len(shown):
        return len(known), list(sent[_position(sent, common) :])
    # One that has cut the beginning off: the longest end of ours that theirs begins with, up to
    # an answer, since a client that sends only what is new sends none.
    for length in range(min(len(shown), len(theirs)), 0, -1):
        if theirs[length - 1].role == "assistant" and shown[-length:] == theirs[:length]:
            return len(known), list(sent[_position(sent, length) :])
    if common and any(message.role == "assistant" for message in theirs):
        stays = seen[common - 1][1]
        return stays, list(sent[_position(sent, common) :])
    return len(known), list(sent)


def _position(messages: Sequence[Message], shown: int) -> int:
    """The place in a conversation after so many of the messages that its client has seen."""
    return _seen(messages)[shown - 1][1] if shown else 0


def _seen(messages: Sequence[Message]) -> list[tuple[Message, int]]:
    """What a client has seen, each message with the place in the conversation after it."""
    hidden: set[str] = set()
    seen: list[tuple[Message, int]] = []
    for place, message in enumerate(messages, 1):
        blocks = []
        for block in message.blocks:
            if block.get("type") == "tool_use" and plain_name(str(block.get("name"))) is None:
                hidden.add(str(block.get("id")))
            elif block.get("tool_use_id") not in hidden:
                blocks.append({key: value for key, value in block.items() if key != "param"})
        if seen and (not blocks or seen[-1][0].role == message.role):
            before, _ = seen.pop()
            (joined,) = in_turns([before, Message(message.role, blocks)] if blocks else [before])
            seen.append((_plain(joined), place))
        elif blocks:
            seen.append((_plain(Message(message.role, blocks)), place))
    return seen


def _plain(message: Message) -> Message:
    """Texts in a row are one text of several paragraphs."""
    blocks: list[dict[str, Any]] = []
    for block in message.blocks:
        if block.get("type") == "text" and blocks and blocks[-1].get("type") == "text":
            blocks[-1] = {"type": "text", "text": f"{blocks[-1]['text']}\n\n{block['text']}"}
        else:
            blocks.append(block)
    return Message(message.role, blocks)
