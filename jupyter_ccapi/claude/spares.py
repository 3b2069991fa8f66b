"""Which processes are worth starting before anybody asks."""

import math
import time
from collections.abc import Collection
from dataclasses import dataclass

from .binding import Binding
from .capabilities import Capabilities
from .options import Options
from .slots import Slot, Wanted

# What was asked for counts half as much after this many seconds.
_HALF_LIFE = 600.0
# So many different demands are remembered.
_REMEMBERED = 64
# So many idle processes of one owner and binding make another one of it needless.
_ENOUGH = 2


@dataclass(slots=True)
class _Demand:
    owner: str
    wanted: Wanted
    score: float
    asked: float

    def worth(self, now: float) -> float:
        """How much and how lately it was asked for."""
        return self.score * math.exp2((self.asked - now) / _HALF_LIFE)


@dataclass(frozen=True, slots=True)
class Plan:
    """A spare to start; without an ``owner`` it is bound to nothing."""

    owner: str | None
    options: Options
    persist: bool
    binding: Binding


class Demands:
    """Learns what is asked for: profiles, and by owner system prompts, tools and schemas."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Binding], _Demand] = {}

    def note(self, owner: str, wanted: Wanted) -> None:
        """A turn with these needs has come."""
        if wanted.binding is None:
            return
        now = time.monotonic()
        key = (owner, wanted.binding)
        known = self._known.pop(key, None)
        score = known.worth(now) if known else 0.0
        # Last in the dictionary: the latest.
        self._known[key] = _Demand(owner, wanted, score + 1.0, now)
        if len(self._known) > _REMEMBERED:
            del self._known[min(self._known, key=lambda key: self._known[key].worth(now))]

    def next_spare(
        self, slots: Collection[Slot], able: Capabilities, most: int, patience: float
    ) -> tuple[Plan, Slot | None] | None:
        """The spare that is missing most, with ``most`` of them allowed, and the one that it takes
        the place of; None where none is missing.

        What nobody has asked for in ``patience`` seconds is not kept ready. One spare is bound to
        nothing, for whatever comes; the others to what is asked for most.
        """
        now = time.monotonic()
        recent = [one for one in self._known.values() if now - one.asked < patience]
        if not recent or most < 1:
            return None
        spares = [slot for slot in slots if slot.state == "spare"]
        room = len(spares) < most
        latest = recent[-1].wanted
        assert latest.binding is not None
        unbound = [slot for slot in spares if slot.owner is None]
        if able.bind_at_initialize:
            fitting = [
                s for s in unbound if s.binding and s.binding.profile == latest.binding.profile
            ]
            if not fitting and (room or unbound):
                plan = Plan(None, latest.options, latest.session.persist, latest.binding)
                return plan, None if room else unbound[0]
        for demand in sorted(recent, key=lambda one: one.worth(now), reverse=True):
            wanted = demand.wanted
            assert wanted.binding is not None
            if _provided(slots, demand.owner, wanted.binding, able):
                continue
            plan = Plan(demand.owner, wanted.options, wanted.session.persist, wanted.binding)
            if room:
                return plan, None
            for slot in spares:
                if slot.bound and self._worth(slot, now) < demand.worth(now) / 2:
                    return plan, slot
            return None
        return None

    def _worth(self, slot: Slot, now: float) -> float:
        """What a bound spare is worth by what is asked for now."""
        assert slot.owner is not None
        assert slot.binding is not None
        known = self._known.get((slot.owner, slot.binding))
        return known.worth(now) if known else 0.0


def _provided(slots: Collection[Slot], owner: str, binding: Binding, able: Capabilities) -> bool:
    """Whether a new conversation with this binding finds a process ready."""
    mine = [slot for slot in slots if slot.owner == owner and slot.binding == binding]
    loose = sum(slot.loose and slot.state == "idle" and not slot.parked for slot in mine)
    return any(slot.bound for slot in mine) or (able.rewind_conversation and loose >= _ENOUGH)
