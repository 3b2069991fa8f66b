"""The conversations that are found again by what they hold, where nobody names them."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.thread import fingerprint

# So many of them.
_REMEMBERED = 4096

#: Whose it is, what its system prompt and mode are, and what its client has seen of it.
Place = tuple[str, str | None, str | None, bytes]


def place_of(owner: str, settings: Mapping[str, Any], messages: Sequence[Message]) -> Place:
    """Where a conversation with these messages is found, by what is asked of it."""
    agent = settings.get("ccapi")
    mode = agent.get("mode") if isinstance(agent, Mapping) else agent
    return owner, settings.get("system_prompt"), mode, fingerprint(messages)


class Seen:
    """The latest conversations by what they hold, each in one place."""

    def __init__(self) -> None:
        self._by_place: OrderedDict[Place, str] = OrderedDict()
        self._places: dict[str, Place] = {}

    def note(self, place: Place, id: str) -> None:
        """Note what a conversation holds now."""
        self.forget(id)
        if (other := self._by_place.pop(place, None)) is not None:
            del self._places[other]
        self._by_place[place] = id
        self._places[id] = place
        if len(self._by_place) > _REMEMBERED:
            _, oldest = self._by_place.popitem(last=False)
            del self._places[oldest]

    def take(self, place: Place) -> str | None:
        """The conversation that holds this, which then is not found again."""
        id = self._by_place.get(place)
        if id is not None:
            self.forget(id)
        return id

    def forget(self, id: str) -> None:
        """Not find this conversation again."""
        if (place := self._places.pop(id, None)) is not None:
            del self._by_place[place]
