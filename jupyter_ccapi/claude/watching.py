"""See all that happens in a conversation, whoever sends its prompts."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import ClaudeError
from .events import Event, TurnEnd
from .history import Content

if TYPE_CHECKING:
    from .planning import Plan
    from .turn import Turn

logger = logging.getLogger(__name__)


class Watcher:
    """Is told what happens, in its order, on the loop of the conversation; here it does nothing
    about it. What a watcher raises is logged, and the turn goes on.
    """

    def begins(self, turn: "Turn", content: Content) -> None:
        """A prompt is its turn now."""

    def hears(self, message: Mapping[str, Any]) -> None:
        """What the CLI says in that turn: its own stream-json, each message as it comes."""

    def sees(self, event: Event) -> None:
        """What its reader is told; see ``events``. The end comes by ``ends``."""

    def ends(self, outcome: TurnEnd | ClaudeError) -> None:
        """The turn is over."""

    def rewound(self, plan: "Plan", *, undo: bool) -> None:
        """Files or conversation, or both, are as they were before a prompt; or that was undone."""


class Watchers:
    """Those who watch one conversation."""

    def __init__(self) -> None:
        self._all: list[Watcher] = []

    def add(self, watcher: Watcher) -> Callable[[], None]:
        """Have somebody watch from now on; returns what ends that."""
        self._all.append(watcher)
        return lambda: self._all.remove(watcher) if watcher in self._all else None

    def tell(self, call: Callable[[Watcher], None]) -> None:
        """Tell each of them."""
        for watcher in list(self._all):
            try:
                call(watcher)
            except Exception:
                logger.exception("What was to be told of a conversation has failed")

    def hears(self, message: Mapping[str, Any]) -> None:
        """Tell them what the CLI says."""
        if self._all:
            self.tell(lambda watcher: watcher.hears(message))
