"""The places of a pool's processes, and which of them serves a turn best."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from .binding import Binding, binding_of
from .capabilities import Capabilities
from .history import Content, Held, Session, Way, common_length, way_to
from .options import Options

if TYPE_CHECKING:
    from .process import Process

#: How a turn came to its process: ``live`` held its conversation already, ``recycled`` another one
#: with the same binding, ``bound`` was started ahead for this binding, ``spare`` for any; ``cold``
#: was started for it.
Warmth = Literal["live", "recycled", "bound", "spare", "cold"]
WARMTHS: tuple[Warmth, ...] = get_args(Warmth)

#: A spare is ``starting`` before it is one; a ``busy`` slot has a turn.
State = Literal["starting", "spare", "busy", "idle", "closing"]

#: Why a process was ended: its work was ``done`` (or failed), it ``gave_way`` to another,
#: nobody needed it until it ``expired``, or it had ``died`` by itself while it waited.
Ending = Literal["done", "gave_way", "expired", "died"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)

# Adding this many user turns takes as long as a cold start that reads them from a transcript.
_MOST_TO_ADD = 40


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a turn needs of its process; ``binding`` None means one that serves nobody else.
    ``prompt`` is what it sends, None where that makes no difference.
    """

    options: Options
    session: Session
    binding: Binding | None
    prompt: Content | None = None
    cold: bool = False

    @classmethod
    def of(
        cls,
        options: Options,
        session: Session,
        prompt: Content | None = None,
        *,
        cold: bool = False,
    ) -> "Wanted":
        """What a session with these options needs for this prompt."""
        return cls(options, session, binding_of(options, persist=session.persist), prompt, cold)


@dataclass(eq=False, slots=True)
class Slot:
    """A place for one process. It belongs to one owner from its claim to its end, and never to
    another; a spare that is bound to nothing yet has no owner.

    ``loose`` is an idle process that no conversation object comes back to: it may serve whoever
    of its owner sends the history that it holds, or be reused.
    """

    owner: str | None
    binding: Binding | None = None
    state: State = "busy"
    loose: bool = False
    warmth: Warmth = "cold"
    starting: "asyncio.Task[Process] | None" = None
    process: "Process | None" = None
    since: float = field(default_factory=time.monotonic)
    expiry: asyncio.TimerHandle | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def closing(self) -> bool:
        """Whether it was given up; ``gone`` is set when its process is."""
        return self.state == "closing"

    @property
    def bound(self) -> bool:
        """Whether it is a spare that was started for one owner and binding."""
        return self.state == "spare" and self.owner is not None

    @property
    def parked(self) -> bool:
        """Whether its process waits for a client: it serves none but the turn with the results."""
        return self.process is not None and bool(self.process.waiting_for)

    @property
    def reused(self) -> bool:
        """Whether its process was there before the turn that it serves."""
        return self.warmth != "cold"


def choose(
    slots: Iterable[Slot], owner: str, wanted: Wanted, able: Capabilities, *, crowded: bool
) -> tuple[Slot, Warmth] | None:
    """The warm process that serves this turn soonest, and how; None where a cold start is it.

    Another conversation's process is reused only where its owner has two or more like it, or where
    there is no place for another (``crowded``): the last one stays for its conversation to go on.
    One that waits for a client is nobody's but the turn's that brings just what it waits for.
    """
    history = wanted.session.history
    if wanted.binding is None or history is None or wanted.cold:
        return None
    mine: list[tuple[Slot, Way]] = []
    bound: Slot | None = None
    unbound: Slot | None = None
    for slot in slots:
        if slot.binding is None or slot.binding.profile != wanted.binding.profile:
            continue
        if slot.process is None or not slot.process.alive or slot.process.held is None:
            continue
        if slot.process.bounds.max_tokens != wanted.options.max_tokens and not able.set_bounds:
            continue
        if slot.state == "spare" and slot.owner is None:
            unbound = slot
        elif slot.owner == owner and slot.binding == wanted.binding:
            if slot.parked:
                if slot.state == "idle" and slot.loose and goes_on(slot.process, wanted):
                    return slot, "live"
            elif slot.state == "spare":
                bound = slot
            elif slot.state == "idle" and slot.loose:
                way = _way(slot.process.held, slot.process.model, wanted)
                if way is not None:
                    mine.append((slot, way))
    mine = [(slot, way) for slot, way in mine if _feasible(way, able)]
    going_on = [(slot, way) for slot, way in mine if way.cut is None]
    if going_on:
        return max(going_on, key=lambda pair: pair[1].keep)[0], "live"
    addable = _feasible(Way(0, None, sum(m.role == "user" for m in history)), able)
    edited = max(mine, key=lambda pair: pair[1].keep, default=None)
    if edited is not None and edited[1].keep > 0:
        return edited[0], "recycled"
    if bound is not None and addable:
        return bound, "bound"
    oldest = min((slot for slot, _ in mine), key=lambda slot: slot.since, default=None)
    if oldest is not None and (len(mine) > 1 or crowded or unbound is None):
        return oldest, "recycled"
    if unbound is not None and addable and bindable(wanted.options, able):
        return unbound, "spare"
    return None


def goes_on(process: "Process", wanted: Wanted) -> bool:
    """Whether this turn brings just what a process waits for, after just what that holds."""
    if wanted.prompt is None or not process.takes(wanted.prompt):
        return False
    held = [one.message for one in process.held or ()]
    history = wanted.session.history or ()
    same = len(held) == len(history) == common_length(held, history)
    options = wanted.options
    return same and (process.model, process.bounds.max_tokens) == (
        options.model,
        options.max_tokens,
    )


def bindable(options: Options, able: Capabilities) -> bool:
    """Whether these options can be bound to a process that was started without them."""
    if options.system_prompt and not able.bind_at_initialize:
        return False
    return options.schema is None or able.schema_at_initialize


def _way(held: Sequence[Held], model: str | None, wanted: Wanted) -> Way | None:
    """How an idle process comes to hold what is wanted. One of another model is emptied first,
    since a switch in mid-conversation leaves a remark in that; in agent mode nothing is cut off.
    """
    history = wanted.session.history or ()
    way = way_to(held, history)
    if model != wanted.options.model:
        cut = way_to(held, ())
        way = cut and Way(0, cut.cut, sum(message.role == "user" for message in history))
    if way is not None and way.cut is not None and wanted.options.mode == "agent":
        return None
    return way


def _feasible(way: Way, able: Capabilities) -> bool:
    """Whether this CLI can go that way, and in less time than a cold start takes."""
    if way.cut is not None and not able.rewind_conversation:
        return False
    return way.prompts_to_add == 0 or (able.seed and way.prompts_to_add <= _MOST_TO_ADD)
