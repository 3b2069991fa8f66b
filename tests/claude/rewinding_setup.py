"""A conversation of a few lines, with checkpoints, for tests that need no Claude Code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from jupyter_ccapi.claude.errors import RewindRefused
from jupyter_ccapi.claude.record import Pointer
from jupyter_ccapi.claude.timeline import Timeline

Prompts = tuple[str, ...]


class Sessions:
    """Stands for Claude Code: its sessions, each the prompts that it was told, kept in a folder
    as Claude Code keeps its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def new(self, prompts: Prompts = ()) -> Pointer:
        """Begin one with these prompts in it."""
        name = f"session {len(list(self._folder.iterdir()))}"
        self.write(name, prompts)
        return {"session": name}

    def write(self, name: str, prompts: Prompts) -> None:
        (self._folder / name).write_text(json.dumps(prompts))

    def read(self, name: str) -> Prompts:
        return tuple(json.loads((self._folder / name).read_text()))


class Talk:
    """Stands for a conversation; without a ``head`` it begins a session."""

    def __init__(self, sessions: Sessions, head: Pointer | None) -> None:
        self._sessions = sessions
        self.head = head or sessions.new()

    @property
    def history(self) -> Prompts:
        """What the model would be told with the next prompt."""
        return self._sessions.read(self.head["session"])

    def say(self, prompt: str) -> Pointer:
        """Send a prompt; return where it stands."""
        session, before = self.head["session"], self.history
        self._sessions.write(session, (*before, prompt))
        return {"session": session, "place": len(before)}

    async def before(self, anchor: Pointer) -> Pointer:
        try:
            return self._sessions.new(self._sessions.read(anchor["session"])[: anchor["place"]])
        except OSError as error:
            raise RewindRefused("No room for another session.") from error

    async def go(self, head: Pointer) -> None:
        self.head = head

    async def rewind_own_files(self, anchor: Pointer) -> None:
        raise AssertionError("the folder can be snapshotted")


async def open_one(home: Path, id: str = "one") -> tuple[Timeline, Talk]:
    """Open the conversation with this id that works in ``home / "project"``; as after a restart,
    where it is known.
    """
    workspace, store = home / "project", home / "store"
    workspace.mkdir(parents=True, exist_ok=True)
    timeline = await Timeline.open(home / "kept", id, workspace=workspace, store=store)
    return timeline, Talk(Sessions(home / "sessions"), timeline.record.head)


def look(folder: Path) -> dict[str, list[object]]:
    """What is in a folder: each file's text and whether it is a program, each empty folder."""
    found: dict[str, list[object]] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name] = [path.read_text(), path.stat().st_mode & 0o100 != 0]
        elif not any(path.iterdir()):
            found[f"{name}/"] = []
    return found


def state(home: Path, timeline: Timeline, talk: Talk) -> dict[str, object]:
    """All that a rewind changes, as JSON can hold it."""
    return {
        "files": look(home / "project"),
        "history": list(talk.history),
        "checkpoints": [one.number for one in timeline.checkpoints],
        "rewinds": len(timeline.record.rewinds),
    }


async def build(home: Path) -> None:
    """Three turns, of which the last two change files in every way that there is."""
    timeline, talk = await open_one(home)
    project = home / "project"

    async def turn(words: str, change: Callable[[], object]) -> None:
        number = await timeline.begin(words)
        anchor = talk.say(words)
        change()
        await timeline.end(number, anchor=anchor, head=talk.head)

    def first() -> None:
        (project / "kept.txt").write_text("kept\n")
        (project / "changed.txt").write_text("1\n")
        (project / "gone").mkdir()
        (project / "gone" / "deep.txt").write_text("deep\n")
        (project / "swap").write_text("a file\n")
        (project / "program.sh").write_text("run\n")

    def second() -> None:
        (project / "changed.txt").write_text("2\n")
        shutil.rmtree(project / "gone")
        (project / "swap").unlink()
        (project / "swap").mkdir()
        (project / "swap" / "in.txt").write_text("in a folder\n")
        (project / "program.sh").chmod(0o755)

    def third() -> None:
        (project / "new").mkdir()
        (project / "new" / "new.txt").write_text("new\n")
        (project / "program.sh").write_text("run fast\n")

    await turn("first", first)
    await turn("second", second)
    await turn("third", third)
    await timeline.close()
