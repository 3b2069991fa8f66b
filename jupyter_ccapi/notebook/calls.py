"""The tool calls of a turn: which cards there are, and how each of them goes on."""

import time
from pathlib import Path
from typing import Any

from jupyter_ccapi.claude import (
    Event,
    PermissionRequest,
    PermissionResolved,
    ToolCall,
    ToolResult,
)

from .cards import Card


class Calls:
    """The cards of a turn's tool calls, by the calls' ids; files are named as seen from `folder`.

    `take` returns the id of the call that an event is about, if its card is a new one or another
    than before.
    """

    def __init__(self, folder: Path | None) -> None:
        self.cards: dict[str, Card] = {}
        self._folder = folder
        self._asked: dict[str, PermissionRequest] = {}
        self._since: dict[str, float] = {}

    @property
    def open(self) -> bool:
        """Whether a tool runs, or waits for an answer."""
        return any(card.open for card in self.cards.values())

    def take(self, event: Event) -> str | None:
        """Note an event of a call; any other event is passed over."""
        match event:
            case ToolCall(id=id):
                self._since[id] = time.monotonic()
                card = Card.begun(event, self._folder)
                return self._set(id, card.asked(self._asked[id]) if id in self._asked else card)
            case PermissionRequest(id=id):
                # Told of from another side than the calls, it may come before its own; and the
                # calls of a sub-agent, which have no card, ask too.
                self._asked[id] = event
                return self._set(id, self.cards[id].asked(event)) if id in self.cards else None
            case PermissionResolved(id=id):
                self._asked.pop(id, None)
                self._since[id] = time.monotonic()
                return self._set(id, self.cards[id].resolved(event)) if id in self.cards else None
            case ToolResult(id=id) if id in self.cards:
                seconds = time.monotonic() - self._since[id]
                return self._set(id, self.cards[id].answered(event, seconds))
        return None

    def end(self, denials: list[Any]) -> list[str]:
        """The turn is over: return the ids of the cards that this changes.

        `denials` are `TurnEnd.permission_denials`, among them what no person was asked about.
        """
        before = dict(self.cards)
        for denial in denials:
            id = denial.get("tool_use_id") if isinstance(denial, dict) else None
            if id in self.cards:
                self.cards[id] = self.cards[id].refused()
        self.cards = {id: card.ended() for id, card in self.cards.items()}
        return [id for id, card in self.cards.items() if card != before[id]]

    def _set(self, id: str, card: Card) -> str | None:
        if self.cards.get(id) == card:
            return None
        self.cards[id] = card
        return id
