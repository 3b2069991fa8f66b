"""Where the checkpoints of a stored conversation are, told by its messages.

A checkpoint's pointers are names of stored messages: ``upto`` is the last one before its prompt
(None: there was none), ``prompt`` is the prompt itself (None: it was not kept, since its turn
failed). A conversation's own pointer is ``upto``, its last message.
"""

from collections.abc import Sequence
from dataclasses import replace

from jupyter_ccapi.claude import Message
from jupyter_ccapi.claude.record import Checkpoint, Pointer, Record
from jupyter_ccapi.store import StoredMessage

_WORDS = 80


def head_of(stored: Sequence[StoredMessage]) -> Pointer:
    """Where a conversation with these messages stands."""
    return {"upto": stored[-1].uuid if stored else None}


def anchor_at(stored: Sequence[StoredMessage], place: int) -> Pointer:
    """Where a prompt stands that is one of these messages."""
    return {**head_of(stored[:place]), "prompt": stored[place].uuid}


def words_of(message: Message) -> str:
    """The text of a message, without what stands beside it."""
    texts = [str(block["text"]) for block in message.blocks if block.get("type") == "text"]
    return " ".join(" ".join(texts).split())


def reconcile(record: Record, stored: Sequence[StoredMessage]) -> None:
    """Have a record say what is true of the messages that are stored: clients add some, edit and
    delete others, and turns that could change no files are not recorded at all.

    A checkpoint goes with its prompt, and with the message before it. Prompts that came after what
    is recorded become checkpoints. A rewind of the conversation cannot be taken back any more when
    that went on.
    """
    places = {one.uuid: place for place, one in enumerate(stored)}
    here = head_of(stored)
    if record.head is not None and record.head != here:
        drop_moves(record)
    unseen = _settle_last(record)
    record.checkpoints = [one for one in record.checkpoints if _stands(one, places)]
    for place in range(_known(record, places) + 1, len(stored)):
        message = Message(stored[place].role, stored[place].content)
        if not message.is_prompt:
            continue
        anchor = anchor_at(stored, place)
        if unseen is not None and unseen in record.checkpoints:
            record.checkpoints[-1] = replace(unseen, anchor=anchor)
            unseen = None
        else:
            last = record.checkpoints[-1].number if record.checkpoints else 0
            when, words = stored[place].created_at, _short(words_of(message))
            record.checkpoints.append(Checkpoint(last + 1, when, words, "", anchor))
    lend_steps(record)
    record.head = here


def drop_moves(record: Record) -> None:
    """Have no rewind be taken back any more that moved the conversation, nor any before it."""
    moves = [place for place, one in enumerate(record.rewinds, 1) if one.head is not None]
    if moves:
        del record.rewinds[: moves[-1]]


def lend_steps(record: Record) -> None:
    """Have checkpoints without a step of their own rest on that of the next one: no turn has
    changed files in between.
    """
    step = ""
    for place, one in reversed(list(enumerate(record.checkpoints))):
        if not one.step and step:
            record.checkpoints[place] = replace(one, step=step)
        step = one.step or step


def _settle_last(record: Record) -> Checkpoint | None:
    """Say where the last prompt stood, where nobody has seen the end of its turn; None where
    somebody did. What has no words was no prompt of its own.
    """
    if not record.checkpoints or record.checkpoints[-1].anchor is not None:
        return None
    if not record.checkpoints[-1].words:
        record.checkpoints.pop()
        return None
    upto = record.head["upto"] if record.head else None
    settled = replace(record.checkpoints[-1], anchor={"upto": upto, "prompt": None})
    record.checkpoints[-1] = settled
    return settled


def _named(pointer: Pointer | None) -> list[str]:
    return [uuid for uuid in (pointer or {}).values() if uuid is not None]


def _stands(checkpoint: Checkpoint, places: dict[str, int]) -> bool:
    return all(uuid in places for uuid in _named(checkpoint.anchor))


def _known(record: Record, places: dict[str, int]) -> int:
    """The place of the last message that the record knows of, -1 if it knows of none."""
    pointers = [record.head, *(one.anchor for one in record.checkpoints)]
    uuids = [uuid for pointer in pointers for uuid in _named(pointer)]
    return max((places[uuid] for uuid in uuids if uuid in places), default=-1)


def _short(words: str) -> str:
    return words if len(words) <= _WORDS else f"{words[: _WORDS - 1].rstrip()}…"
