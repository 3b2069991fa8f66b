"""Conversations that others watch, and change, while turns of them wait or run."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    Answer,
    ClaudeError,
    Conversation,
    Event,
    Options,
    PermissionRequest,
    Pool,
    TextDelta,
    Turn,
    TurnEnd,
    Watcher,
)
from jupyter_ccapi.claude.errors import BudgetSpent, ControlRefused
from jupyter_ccapi.claude.history import Content
from jupyter_ccapi.claude.planning import Plan
from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.support import events_of, until


class Notes(Watcher):
    """All that a watcher is told, in a word each."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.over = asyncio.Event()

    def begins(self, turn: Turn, content: Content) -> None:
        """Note the prompt."""
        self.all.append(f"begins {content}")

    def hears(self, message: Mapping[str, Any]) -> None:
        """Note what kind of message the CLI has told."""
        if message["type"] in ("assistant", "result"):
            self.all.append(f"hears {message['type']}")

    def sees(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, TextDelta | PermissionRequest):
            self.all.append(f"sees {type(event).__name__}")

    def ends(self, outcome: TurnEnd | ClaudeError) -> None:
        """Note the end."""
        how = outcome.reason if isinstance(outcome, TurnEnd) else type(outcome).__name__
        self.all.append(f"ends {how}")

    def rewound(self, plan: Plan, *, undo: bool) -> None:
        """Note a rewind."""
        self.all.append(f"rewound {plan.checkpoint}{' undone' if undo else ''}")
        self.over.set()


@pytest.fixture
def asking(home: Path) -> Options:
    """An agent whose reader is asked."""
    return Options(mode="agent", cwd=home / "project", asks=True)


def writes(path: Path) -> Reply:
    """A message of the model's that writes a file."""
    return Reply(tools=[("Write", {"file_path": str(path), "content": "A\n"})])


async def test_a_watcher_is_told_all_in_its_order_and_cannot_disturb(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    """Turns that wait begin one after another, each after the end of the one before."""

    class Broken(Notes):
        def hears(self, message: Mapping[str, Any]) -> None:
            raise RuntimeError("broken")

    conversation, notes = Conversation(pool, asking), Notes()
    conversation.watchers.add(Broken())
    unwatch = conversation.watchers.add(notes)
    model.script(Reply("One."), Reply("Two."))
    first, second = conversation.send("A"), conversation.send("B")
    await first.finish()
    await second.finish()
    frame = [one for one in notes.all if one.startswith(("begins", "ends"))]
    assert frame == ["begins A", "ends completed", "begins B", "ends completed"]
    assert {"sees TextDelta", "hears assistant", "hears result"} < set(notes.all)
    unwatch()
    await conversation.send("C").finish()
    assert "begins C" not in notes.all


async def test_a_permission_mode_counts_for_prompts_that_wait(
    pool: Pool, model: OfflineModel, asking: Options, home: Path
) -> None:
    """Whoever takes a permission back is asked again from then on."""
    accepting = replace(asking, sdk={"permission_mode": "acceptEdits"})
    conversation = Conversation(pool, accepting)
    bash = Reply(tools=[("Bash", {"command": "touch a.txt; cd .. && ls"})])
    model.script(bash, Reply("A."), writes(home / "project" / "b.txt"), Reply("B."))
    first, second = conversation.send("A"), conversation.send("B")
    request = await until(first, PermissionRequest)
    await conversation.set_permission_mode("default")
    first.answer(request.id, Answer("allow"))
    request = await until(second, PermissionRequest)
    assert request.tool == "Write"
    second.answer(request.id, Answer("deny"))
    await second.finish()
    assert not (home / "project" / "b.txt").exists()


@pytest.mark.parametrize("steps", [0, 1, 3, 10, 40, 200])
async def test_a_permission_mode_counts_while_a_turn_begins(
    pool: Pool, model: OfflineModel, asking: Options, home: Path, steps: int
) -> None:
    """Wherever it is: before its process is there, and after."""
    conversation = Conversation(pool, asking)
    begun = threading.Event()
    model.script(
        replace(writes(home / "project" / "a.txt"), text="I write.", hold=begun), Reply("A.")
    )
    turn = conversation.send("A")
    for _ in range(steps):
        await asyncio.sleep(0.002)
    await conversation.set_permission_mode("acceptEdits")
    begun.set()
    assert not [event for event in await events_of(turn) if isinstance(event, PermissionRequest)]
    assert (home / "project" / "a.txt").exists()


async def test_a_permission_mode_that_is_refused_in_a_turn_is_said(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    """It asks on: nobody is to believe something else. The next turn has the mode."""
    conversation = Conversation(pool, asking)
    model.script(Reply(tools=[("Bash", {"command": "touch a.txt"})]), Reply("A."))
    turn = conversation.send("A")
    request = await until(turn, PermissionRequest)
    with pytest.raises(ControlRefused, match="from the next turn on"):
        await conversation.set_permission_mode("bypassPermissions")
    await conversation.set_permission_mode("plan")
    turn.answer(request.id, Answer("deny"))
    assert (await turn.finish()).reason == "completed"


async def test_a_budget_bounds_prompts_that_wait(
    pool: Pool, model: OfflineModel, asking: Options
) -> None:
    """They are not sent to the model any more."""
    conversation, notes = Conversation(pool, asking), Notes()
    conversation.watchers.add(notes)
    conversation.budget_usd = 0.01
    model.script(Reply("A.", output_tokens=10_000))
    first, second = conversation.send("A"), conversation.send("B")
    await first.finish()
    with pytest.raises(BudgetSpent, match=r"budget of \$0\.01 is spent"):
        await second.finish()
    assert len(model.main_requests) == 1
    assert notes.all[-1] == "ends BudgetSpent"


async def test_a_rewind_is_told_also_when_nobody_waits_for_it_any_more(
    pool: Pool,
    model: OfflineModel,
    asking: Options,
    home: Path,
) -> None:
    """It was done."""
    timeline = await Timeline.open(
        home / "kept", "one", workspace=asking.cwd, store=home / "snapshots"
    )
    conversation = Conversation(pool, asking, id="one", timeline=timeline)
    notes = Notes()
    await conversation.send("A").finish()
    conversation.watchers.add(notes)
    rewinding = asyncio.create_task(conversation.rewinding(lambda one: one.rewind(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rewinding.cancel()
    async with asyncio.timeout(20):
        await notes.over.wait()
    assert notes.all == ["rewound 1"]
    assert timeline.checkpoints == []
    await conversation.rewinding(lambda one: one.undo())
    assert notes.all == ["rewound 1", "rewound 1 undone"]
    await conversation.close()
    await timeline.close()
