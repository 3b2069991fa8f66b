"""A rewind, and an undo, that come to a bad end at every point: all is done, or nothing is."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.claude.errors import ClaudeError
from jupyter_ccapi.claude.rewinding import Rewinder, Wish
from tests.claude.effects import Fault, effects
from tests.claude.rewinding_setup import build, open_one, state

# More than a rewind of these few files has.
MOST = 400

State = dict[str, Any]


async def act(home: Path, what: str) -> State:
    """Rewind the conversation of a folder, or take that back; return the state after it."""
    timeline, talk = await open_one(home)
    rewinder = Rewinder(timeline, talk)
    try:
        await (rewinder.undo(Wish()) if what == "undo" else rewinder.rewind(2, Wish()))
        return state(home, timeline, talk)
    finally:
        await timeline.close()


async def prepared(folder: Path, what: str) -> tuple[State, State]:
    """Make `before` in a folder; return what it holds, and what must be there afterwards."""
    home, before = folder / "home", folder / "before"
    await build(home)
    if what == "undo":
        await act(home, "rewind")
    shutil.copytree(home, before, symlinks=True)
    timeline, talk = await open_one(home)
    was = state(home, timeline, talk)
    await timeline.close()
    after = await act(home, what)
    assert was["files"] != after["files"]
    assert was["history"] != after["history"]
    return was, after


@pytest.mark.parametrize("what", ["rewind", "undo"])
async def test_wherever_the_process_dies_the_next_one_finds_all_or_nothing(
    what: str, tmp_path: Path
) -> None:
    was, after = await prepared(tmp_path, what)
    points = [*range(1, MOST)]
    command = [sys.executable, "-m", "tests.claude.a_rewinding_program", str(tmp_path), what]
    program = await asyncio.to_thread(
        subprocess.run,
        [*command, *map(str, points)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert program.stderr == ""
    outcomes = [json.loads(line) for line in program.stdout.splitlines()]
    for number, outcome in enumerate(outcomes, 1):
        told = (number, outcome)
        assert outcome["found"] == (after if outcome["done"] else was), told
        assert outcome["back"] == (was if outcome["done"] else after), told
        assert outcome["left"] == ["one.json", "one.lock"], told
    assert outcomes[-1]["lived"]
    assert outcomes[-1]["done"]
    assert {outcome["done"] for outcome in outcomes if not outcome["lived"]} == {True, False}


@pytest.mark.parametrize("fault", ["fails once", "is full", "is read-only"])
@pytest.mark.parametrize("what", ["rewind", "undo"])
async def test_wherever_the_disk_refuses_all_is_done_or_nothing(
    what: str, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    was, after = await prepared(tmp_path, what)
    home = tmp_path / "home"
    for number in range(1, MOST):
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "before", home, symlinks=True)
        timeline, talk = await open_one(home)
        rewinder = Rewinder(timeline, talk)
        try:
            with effects(number, fault) as counting:
                await (rewinder.undo(Wish()) if what == "undo" else rewinder.rewind(2, Wish()))
        except ClaudeError:
            done = False
        else:
            done = True
        for _ in range(2):  # in the same process, when there is room again, and in the next one
            await rewinder.recover()
            assert state(home, timeline, talk) == (after if done else was), (number, done)
            await timeline.close()
            timeline, talk = await open_one(home)
            rewinder = Rewinder(timeline, talk)
        await timeline.close()
        assert sorted(path.name for path in (home / "kept").iterdir()) == ["one.json", "one.lock"]
        if counting.count < number:
            break
    assert done
    assert number > 20
