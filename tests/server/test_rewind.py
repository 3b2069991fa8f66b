"""Checkpoints of conversations over HTTP, and the way back to them."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_ccapi.claude.errors import ClaudeError
from jupyter_ccapi.claude.snapshots import Snapshots
from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.config import data_folder
from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.principal import Principal
from jupyter_ccapi.server.timelines import Mark, StoredTalk
from jupyter_ccapi.store import Key
from tests.claude.support import conversation_sent
from tests.server.chats import CHAT, WEATHER, Call, chat, post_alone, result
from tests.server.test_key_access import SECRET, bearer, key

CONVERSATIONS = ("v1", "conversations")
EDITING = {"mode": "agent", "permission_mode": "acceptEdits", "allowed_tools": ["Bash"]}

Write = Callable[..., Awaitable[str]]


@pytest.fixture
def ccapi_config() -> dict[str, Any]:
    """A server whose owner lets agents change files."""
    return {
        "agent_permission_modes": ["default", "acceptEdits"],
        "agent_allowed_tools": ["Bash"],
    }


@pytest.fixture
def root(jp_serverapp: ServerApp) -> Path:
    """The server's own folder."""
    return Path(jp_serverapp.root_dir)


@pytest.fixture
def write(call: Call, model: OfflineModel, root: Path) -> Write:
    """Has an agent write a file; gives the conversation's id."""

    async def write(name: str, text: str, id: str | None = None, **fields: Any) -> str:
        path = str(root / name)
        read = [Reply(tools=[("Read", {"file_path": path})])] if (root / name).exists() else []
        written = Reply(tools=[("Write", {"file_path": path, "content": text})])
        model.clear()
        model.script(*read, written, Reply(f"Wrote {name}."))
        more = {"conversation_id": id} if id else {}
        answer = await call(*CHAT, json=chat(f"Write {name}", ccapi=EDITING, **more, **fields))
        assert answer.status == 200, answer.body
        assert (root / name).read_text() == text
        return str(answer.headers["x-ccapi-conversation-id"])

    return write


def look(folder: Path) -> dict[str, str]:
    """The files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def texts(model: OfflineModel) -> list[str]:
    """What the model was sent last."""
    return [text for _, text in conversation_sent(model.main_requests[-1])]


async def rewind(call: Call, id: str, checkpoint: int, **fields: Any) -> Any:
    return await call(*CONVERSATIONS, id, "rewind", json={"checkpoint": checkpoint, **fields})


async def undo(call: Call, id: str, **fields: Any) -> Any:
    return await call(*CONVERSATIONS, id, "rewind", "undo", json=fields)


async def checkpoints(call: Call, id: str) -> tuple[list[Any], bool]:
    answer = await call(*CONVERSATIONS, id, "checkpoints")
    assert answer.status == 200, answer.body
    return answer.body["data"], answer.body["can_undo"]


async def numbered(call: Call, id: str) -> list[tuple[int, str]]:
    return [(one["number"], one["words"]) for one in (await checkpoints(call, id))[0]]


async def said(call: Call, id: str) -> list[str]:
    """The texts of a conversation's items."""
    answer = await call(*CONVERSATIONS, id, "items", params={"order": "asc", "limit": 100})
    items = [item for item in answer.body["data"] if item["type"] == "message"]
    return [item["content"][0]["text"] for item in items]


async def talk(call: Call, model: OfflineModel, *words: str) -> str:
    """A chat of these texts: the user's, the model's, the user's …"""
    model.clear()
    model.script(*map(Reply, words[1::2]))
    id = ""
    for text in words[::2]:
        more = {"conversation_id": id} if id else {}
        answer = await call(*CHAT, json=chat(text, **more))
        id = answer.body["conversation_id"]
    model.clear()
    return id


def timeline_of(id: str) -> Path:
    return data_folder() / "timelines" / "server" / f"{id}.json"


class TestAnAgent:
    """Files and conversation."""

    async def test_is_rewound_with_its_files_and_that_is_taken_back(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        (root / "mine.txt").write_text("mine\n")
        id = await write("a.txt", "1\n")
        await write("a.txt", "2\n", id)
        await write("b.txt", "3\nand\n", id)
        before = look(root)
        data, can_undo = await checkpoints(call, id)
        assert [(one["number"], one["words"], one["files"]) for one in data] == [
            (1, "Write a.txt", ["a.txt"]),
            (2, "Write a.txt", ["a.txt"]),
            (3, "Write b.txt", ["b.txt"]),
        ]
        assert [(one["insertions"], one["deletions"]) for one in data] == [(1, 0), (1, 1), (2, 0)]
        assert {one["object"] for one in data} == {"conversation.checkpoint"}
        assert abs(data[0]["created_at"] - time.time()) < 600
        assert not can_undo

        done = await rewind(call, id, 2)
        assert done.status == 200, done.body
        diff = done.body.pop("diff")
        assert "-2\n+1\n" in diff
        assert "-and\n" in diff
        assert done.body == {
            "object": "conversation.rewind",
            "checkpoint": 2,
            "done": True,
            "files": [
                {"path": "a.txt", "kind": "modified", "insertions": 1, "deletions": 1},
                {"path": "b.txt", "kind": "deleted", "insertions": 0, "deletions": 2},
            ],
            "kept": [],
            "conflicts": [],
            "not_covered": [],
            "undone": [
                {"number": 2, "words": "Write a.txt"},
                {"number": 3, "words": "Write b.txt"},
            ],
            "returns": [],
            "variables": [],
            "note": "",
        }
        assert look(root) == {"mine.txt": "mine\n", "a.txt": "1\n"}
        assert await said(call, id) == ["Write a.txt", "Wrote a.txt."]
        assert await numbered(call, id) == [(1, "Write a.txt")]

        back = await undo(call, id)
        assert [one["number"] for one in back.body["returns"]] == [2, 3]
        assert look(root) == before
        assert len(await said(call, id)) == 6
        assert len(await numbered(call, id)) == 3

        await rewind(call, id, 2)
        model.clear()
        answer = await call(*CHAT, json=chat("And now?", conversation_id=id, ccapi=EDITING))
        assert answer.headers["x-ccapi-checkpoint"] == "2"
        assert [text for text in texts(model) if "Wrote" in text or "?" in text] == [
            "Wrote a.txt.",
            "And now?",
        ]
        assert await numbered(call, id) == [(1, "Write a.txt"), (2, "And now?")]
        refused = await undo(call, id)
        assert (refused.status, refused.body["error"]["code"]) == (409, "rewind_refused")
        assert refused.headers["x-should-retry"] == "false"

    async def test_is_not_touched_by_a_rewind_that_is_only_to_be_shown(
        self, call: Call, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        await write("b.txt", "2\n", id)
        before = look(root)
        shown = (await rewind(call, id, 1, dry_run=True)).body
        assert (shown["done"], len(shown["files"]), len(shown["undone"])) == (False, 2, 2)
        assert "-1\n" in shown["diff"]
        assert look(root) == before
        assert len(await said(call, id)) == 4
        assert (await checkpoints(call, id))[1] is False

        await rewind(call, id, 2)
        back = (await undo(call, id, dry_run=True)).body
        assert (back["done"], [one["kind"] for one in back["files"]]) == (False, ["added"])
        assert look(root) == {"a.txt": "1\n"}
        assert (await checkpoints(call, id))[1] is True

    async def test_is_not_rewound_over_what_another_hand_has_changed_unless_by_force(
        self, call: Call, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        (root / "a.txt").write_text("user's\n")
        (root / "notes.txt").write_text("user's\n")
        before = look(root)
        shown = (await rewind(call, id, 1, dry_run=True)).body
        assert (shown["conflicts"], [one["path"] for one in shown["kept"]]) == (
            ["a.txt"],
            ["notes.txt"],
        )
        refused = await rewind(call, id, 1)
        error = refused.body["error"]
        assert (refused.status, error["code"], "a.txt" in error["message"]) == (
            409,
            "conflict",
            True,
        )
        assert '"force": true' in error["message"]
        assert "--" not in error["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert look(root) == before
        assert len(await said(call, id)) == 2
        assert (await rewind(call, id, 1, force=True)).body["done"]
        assert look(root) == {}
        assert await said(call, id) == []
        (root / "a.txt").write_text("new\n")
        assert (await undo(call, id)).body["error"]["code"] == "conflict"
        assert (await undo(call, id, force=True)).body["done"]
        assert look(root) == before

    async def test_can_be_rewound_in_files_or_conversation_alone(
        self, call: Call, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        await write("a.txt", "2\n", id)
        assert (await rewind(call, id, 2, conversation=False)).body["undone"] == []
        assert look(root) == {"a.txt": "1\n"}
        assert len(await said(call, id)) == 4
        assert len(await numbered(call, id)) == 2
        assert (await rewind(call, id, 2, files=False)).body["files"] == []
        assert look(root) == {"a.txt": "1\n"}
        assert len(await said(call, id)) == 2
        for _ in range(2):
            assert (await undo(call, id)).status == 200
        assert look(root) == {"a.txt": "2\n"}
        assert len(await said(call, id)) == 4
        assert (await undo(call, id)).status == 409

    async def test_that_resends_its_history_is_one_conversation_with_checkpoints(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n", stream=True)
        model.clear()
        model.script(Reply(tools=[("Bash", {"command": "echo 2 > a.txt"})]), Reply("Ran."))
        body = chat("Write a.txt", ccapi=EDITING)
        body["messages"] += [
            {"role": "assistant", "content": "Wrote a.txt."},
            {"role": "user", "content": "Run"},
        ]
        answer = await call(*CHAT, json=body)
        assert answer.headers["x-ccapi-conversation-id"] == id
        assert answer.headers["x-ccapi-checkpoint"] == "2"
        assert await numbered(call, id) == [(1, "Write a.txt"), (2, "Run")]
        await rewind(call, id, 2)
        assert look(root) == {"a.txt": "1\n"}
        # What it resends now is not what the conversation holds: it goes on elsewhere.
        body["messages"] += [
            {"role": "assistant", "content": "Ran."},
            {"role": "user", "content": "And?"},
        ]
        other = (await call(*CHAT, json=body)).headers["x-ccapi-conversation-id"]
        assert other != id
        assert await said(call, id) == ["Write a.txt", "Wrote a.txt."]
        assert (await undo(call, id)).status == 200
        assert look(root) == {"a.txt": "2\n"}

    @pytest.mark.parametrize("interrupted", [False, True])
    async def test_whose_turn_did_not_end_well_can_be_rewound_too(
        self,
        call: Call,
        model: OfflineModel,
        write: Write,
        root: Path,
        jp_serverapp: ServerApp,
        http_server: object,
        interrupted: bool,
    ) -> None:
        id = await write("a.txt", "1\n")
        model.clear()
        run = Reply(tools=[("Bash", {"command": "echo 2 > a.txt"})])
        if interrupted:
            model.script(run, Reply("one two", hold=threading.Event()))
            body = json.dumps(chat("Stop me", conversation_id=id, ccapi=EDITING))
            writer = await post_alone(jp_serverapp, body)
            await asyncio.to_thread(model.wait_for, lambda r: r.held, 30)
            writer.close()
        else:
            model.script(run, *[Reply(error=ApiError(400, "", "No."))] * 9)
            answer = await call(*CHAT, json=chat("Fail", conversation_id=id, ccapi=EDITING))
            assert answer.status == 400
        if not interrupted:
            assert await numbered(call, id) == [(1, "Write a.txt"), (2, "Fail")]
        await write("c.txt", "3\n", id)
        words = [words for _, words in await numbered(call, id)]
        assert words == ["Write a.txt", "Stop me" if interrupted else "Fail", "Write c.txt"]
        assert look(root) == {"a.txt": "2\n", "c.txt": "3\n"}
        await rewind(call, id, 2)
        assert look(root) == {"a.txt": "1\n"}
        assert await said(call, id) == ["Write a.txt", "Wrote a.txt."]

    async def test_that_never_began_is_no_checkpoint(self, call: Call, write: Write) -> None:
        id = await write("a.txt", "1\n")
        body = chat("Hello", conversation_id=id, ccapi=EDITING, reasoning_effort="enormous")
        assert (await call(*CHAT, json=body)).status == 400
        body = chat("Hello", model="claude-none\tsuch", conversation_id=id, ccapi=EDITING)
        assert (await call(*CHAT, json=body)).status == 404
        assert await numbered(call, id) == [(1, "Write a.txt")]

    async def test_is_waited_for_before_it_is_rewound(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        model.clear()
        hold = threading.Event()
        model.script(
            Reply(tools=[("Bash", {"command": "echo 2 > a.txt"})]), Reply("one two", hold=hold)
        )
        running = asyncio.ensure_future(
            call(*CHAT, json=chat("Run", conversation_id=id, ccapi=EDITING))
        )
        await asyncio.to_thread(model.wait_for, lambda request: request.held, 30)
        assert await numbered(call, id) == [(1, "Write a.txt"), (2, "Run")]
        rewinding = asyncio.ensure_future(rewind(call, id, 2))
        await asyncio.sleep(0.1)
        assert look(root) == {"a.txt": "2\n"}
        hold.set()
        assert (await running).status == 200
        assert (await rewinding).status == 200
        assert look(root) == {"a.txt": "1\n"}
        assert len(await said(call, id)) == 2

    async def test_that_waits_for_its_clients_tools_goes_on_without_a_checkpoint(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        model.clear()
        model.script(
            Reply(tools=[("mcp__client__weather", {"city": "Oslo"})]),
            Reply(tools=[("Bash", {"command": "echo rain > a.txt"})]),
            Reply("Noted."),
        )
        more = {"conversation_id": id, "ccapi": EDITING, "tools": [WEATHER]}
        answer = await call(*CHAT, json=chat("Note the weather", **more))
        (asked,) = answer.body["choices"][0]["message"]["tool_calls"]
        answer = await call(*CHAT, json={"messages": [result(asked["id"], "rain")], **more})
        assert answer.body["choices"][0]["message"]["content"] == "Noted."
        assert "x-ccapi-checkpoint" not in answer.headers
        assert look(root) == {"a.txt": "rain\n"}
        assert await numbered(call, id) == [(1, "Write a.txt"), (2, "Note the weather")]
        assert (await rewind(call, id, 2)).status == 200
        assert look(root) == {"a.txt": "1\n"}
        assert await said(call, id) == ["Write a.txt", "Wrote a.txt."]

    async def test_leaves_no_words_of_what_is_not_to_be_kept(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        await write("a.txt", "2\n", id, store=False)
        assert await numbered(call, id) == [(1, "Write a.txt")]
        assert timeline_of(id).read_text().count("Write a.txt") == 1
        assert (await rewind(call, id, 1)).body["conflicts"] == []
        assert look(root) == {}

    async def test_that_was_a_chat_before_is_rewound_to_what_was_said_there(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await talk(call, model, "one", "two", "three", "four")
        assert not timeline_of(id).exists()
        await write("a.txt", "1\n", id)
        # And again: what this turn says cannot change anything, yet others did.
        model.clear()
        model.script(Reply("six"))
        await call(*CHAT, json=chat("five", conversation_id=id, ccapi={"mode": "chat"}))
        assert await numbered(call, id) == [
            (1, "one"),
            (2, "three"),
            (3, "Write a.txt"),
            (4, "five"),
        ]
        assert (await rewind(call, id, 4)).body["files"] == []
        assert (await rewind(call, id, 2)).status == 200
        assert look(root) == {}
        assert await said(call, id) == ["one", "two"]
        for _ in range(2):
            assert (await undo(call, id)).status == 200
        assert look(root) == {"a.txt": "1\n"}
        assert (await said(call, id))[-1] == "six"

    async def test_that_works_elsewhere_now_cannot_have_the_files_of_before(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        (root / "sub").mkdir()
        model.clear()
        model.script(Reply(tools=[("Bash", {"command": "echo 2 > b.txt"})]), Reply("Ran."))
        body = chat("Run", conversation_id=id, ccapi={**EDITING, "cwd": "sub"})
        assert (await call(*CHAT, json=body)).status == 200
        refused = await rewind(call, id, 1)
        assert (refused.status, refused.body["error"]["code"]) == (409, "rewind_refused")
        assert '"files": false' in refused.body["error"]["message"]
        assert (await rewind(call, id, 1, dry_run=True)).status == 409
        assert look(root) == {"a.txt": "1\n", "sub/b.txt": "2\n"}
        (one,) = (await rewind(call, id, 2)).body["files"]
        assert one["path"] == "b.txt"
        assert (await rewind(call, id, 1, files=False)).status == 200
        assert await said(call, id) == []

    async def test_in_a_folder_that_cannot_be_snapshotted_has_its_conversation_rewound_alone(
        self,
        call: Call,
        write: Write,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(Path, "home", classmethod(lambda cls: root))
        id = await write("a.txt", "1\n")
        for dry_run in (True, False):
            refused = await rewind(call, id, 1, dry_run=dry_run)
            message = refused.body["error"]["message"]
            assert (refused.status, "home folder" in message) == (409, True)
            assert '"files": false' in message
        assert (await rewind(call, id, 1, files=False)).status == 200
        assert look(root) == {"a.txt": "1\n"}
        assert await said(call, id) == []
        assert (await undo(call, id)).status == 200

    async def test_that_may_change_nothing_costs_no_snapshot(
        self, call: Call, model: OfflineModel, root: Path
    ) -> None:
        model.script(Reply("Hello."))
        answer = await call(*CHAT, json=chat("Hi", ccapi={"mode": "agent"}))
        id = answer.headers["x-ccapi-conversation-id"]
        assert await numbered(call, id) == [(1, "Hi")]
        assert not timeline_of(id).exists()
        assert not (data_folder() / "snapshots").exists()


class TestAChat:
    """Only what was said."""

    async def test_is_rewound_and_that_is_taken_back(self, call: Call, model: OfflineModel) -> None:
        id = await talk(call, model, "one", "two", "three", "four", "five", "six")
        (first, *_), can_undo = await checkpoints(call, id)
        assert abs(first.pop("created_at") - time.time()) < 600
        assert first == {
            "object": "conversation.checkpoint",
            "number": 1,
            "words": "one",
            "files": [],
            "insertions": 0,
            "deletions": 0,
        }
        assert not can_undo
        assert not timeline_of(id).exists()
        shown = (await rewind(call, id, 2, dry_run=True)).body
        assert [one["words"] for one in shown["undone"]] == ["three", "five"]
        assert list(timeline_of(id).parent.glob(f"{id}*")) == []

        assert (await rewind(call, id, 2)).body["done"]
        assert await said(call, id) == ["one", "two"]
        fork = (await call(*CONVERSATIONS, id, "fork", json={})).body["id"]
        assert await said(call, fork) == ["one", "two"]
        assert await checkpoints(call, fork) != ([], True)
        assert (await checkpoints(call, id))[1]
        assert (await undo(call, id)).body["done"]
        assert len(await said(call, id)) == 6
        assert len(await numbered(call, id)) == 3

        await rewind(call, id, 3)
        await rewind(call, id, 2)
        await undo(call, id)
        assert await said(call, id) == ["one", "two", "three", "four"]
        await rewind(call, id, 2)
        model.script(Reply("4"))
        await call(*CHAT, json=chat("3", conversation_id=id))
        assert texts(model) == ["one", "two", "3"]
        assert await said(call, id) == ["one", "two", "3", "4"]
        assert await numbered(call, id) == [(1, "one"), (2, "3")]
        assert not (await checkpoints(call, id))[1]
        assert (await undo(call, id)).body["error"]["code"] == "rewind_refused"
        assert await said(call, id) == ["one", "two", "3", "4"]

    async def test_has_no_files_to_rewind(self, call: Call, model: OfflineModel) -> None:
        id = await talk(call, model, "one", "two")
        for dry_run in (True, False):
            refused = await rewind(call, id, 1, conversation=False, dry_run=dry_run)
            assert (refused.status, refused.body["error"]["code"]) == (409, "rewind_refused")
        assert await said(call, id) == ["one", "two"]

    async def test_loses_the_checkpoints_of_what_is_edited_away(
        self, call: Call, model: OfflineModel
    ) -> None:
        id = await talk(call, model, "one", "two", "three", "four", "five", "six")
        items = (await call(*CONVERSATIONS, id, "items", params={"order": "asc"})).body["data"]
        # Its prompt is gone, and in another the message before it.
        await call(*CONVERSATIONS, id, "items", items[2]["id"], method="DELETE")
        assert await numbered(call, id) == [(1, "one"), (3, "five")]
        assert (await rewind(call, id, 2)).status == 400
        assert (await rewind(call, id, 3)).status == 200
        assert await said(call, id) == ["one", "two", "four"]
        await undo(call, id)
        await call(*CONVERSATIONS, id, "items", items[3]["id"], method="DELETE")
        assert await numbered(call, id) == [(1, "one")]
        more = {"items": [{"role": "user", "content": "more"}]}
        assert (await call(*CONVERSATIONS, id, "items", json=more)).status == 200
        assert await numbered(call, id) == [(1, "one"), (2, "more")]

        await rewind(call, id, 2)
        assert (await checkpoints(call, id))[1]
        assert (await call(*CONVERSATIONS, id, "items", json=more)).status == 200
        assert not (await checkpoints(call, id))[1]
        assert (await undo(call, id)).status == 409
        assert (await said(call, id))[-1] == "more"

    async def test_rewound_to_nothing_and_emptied_cannot_be_brought_back(
        self, call: Call, model: OfflineModel
    ) -> None:
        id = await talk(call, model, "one", "two")
        await rewind(call, id, 1)
        item = {"items": [{"role": "user", "content": "x"}]}
        (added,) = (await call(*CONVERSATIONS, id, "items", json=item)).body["data"]
        await call(*CONVERSATIONS, id, "items", added["id"], method="DELETE")
        assert await said(call, id) == []
        assert not (await checkpoints(call, id))[1]
        assert (await undo(call, id)).status == 409

    async def test_whose_client_resends_an_edited_history_loses_those_behind_the_cut(
        self, call: Call, model: OfflineModel
    ) -> None:
        id = await talk(call, model, "one", "two", "three", "four", "five", "six")
        model.script(Reply("4"))
        edited = [*chat("one")["messages"], {"role": "assistant", "content": "two"}]
        edited += chat("3")["messages"]
        await call(*CHAT, json={"messages": edited, "conversation_id": id})
        assert await numbered(call, id) == [(1, "one"), (2, "3")]
        await rewind(call, id, 2)
        assert await said(call, id) == ["one", "two"]
        await undo(call, id)
        assert await said(call, id) == ["one", "two", "3", "4"]


async def test_an_agent_whose_client_resends_an_edited_history_keeps_its_files_in_reach(
    call: Call, model: OfflineModel, write: Write, root: Path
) -> None:
    id = await write("a.txt", "1\n")
    await write("b.txt", "2\n", id)
    model.clear()
    model.script(Reply("Other."))
    edited = [
        *chat("Write a.txt")["messages"],
        {"role": "assistant", "content": "Wrote a.txt."},
        *chat("Something else")["messages"],
    ]
    body = {"messages": edited, "conversation_id": id, "ccapi": EDITING}
    assert (await call(*CHAT, json=body)).status == 200
    assert await numbered(call, id) == [(1, "Write a.txt"), (3, "Something else")]
    assert (await rewind(call, id, 3)).body["files"] == []
    assert (await rewind(call, id, 1)).status == 200
    assert look(root) == {}


class TestACrash:
    """In the middle of a rewind."""

    @pytest.fixture
    def cut_off(
        self,
        call: Call,
        write: Write,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        jp_asyncio_loop: asyncio.AbstractEventLoop,
    ) -> str:
        """A conversation that was rewound to 2, when its server crashed before it was moved."""
        go, crashes = StoredTalk.go, [OSError("The power is off.")]

        async def crash(talk: StoredTalk, head: Any) -> None:
            if crashes:
                raise crashes.pop()
            await go(talk, head)

        async def crashed() -> str:
            id = await write("a.txt", "1\n")
            await write("b.txt", "2\n", id)
            monkeypatch.setattr(StoredTalk, "go", crash)
            assert (await rewind(call, id, 2)).status == 500
            assert look(root) == {"a.txt": "1\n"}
            return id

        return jp_asyncio_loop.run_until_complete(crashed())

    async def test_is_seen_to_by_the_next_turn(
        self, call: Call, model: OfflineModel, cut_off: str
    ) -> None:
        model.clear()
        await call(*CHAT, json=chat("And now?", conversation_id=cut_off, ccapi=EDITING))
        assert "Wrote a.txt." in texts(model)
        assert "Wrote b.txt." not in str(texts(model))
        assert await numbered(call, cut_off) == [(1, "Write a.txt"), (2, "And now?")]

    @pytest.mark.parametrize(
        "what", ["items", "checkpoints", "fork", "add", "undo", "conversation"]
    )
    async def test_is_seen_to_by_whatever_comes_next(
        self, call: Call, cut_off: str, root: Path, what: str
    ) -> None:
        rest = ["Write a.txt", "Wrote a.txt."]
        if what == "checkpoints":
            assert await numbered(call, cut_off) == [(1, "Write a.txt")]
        elif what == "fork":
            fork = (await call(*CONVERSATIONS, cut_off, "fork", json={})).body["id"]
            assert await said(call, fork) == rest
        elif what == "add":
            more = {"items": [{"role": "user", "content": "more"}]}
            await call(*CONVERSATIONS, cut_off, "items", json=more)
            rest = [*rest, "more"]
        elif what == "undo":
            assert (await undo(call, cut_off)).status == 200
            assert look(root) == {"a.txt": "1\n", "b.txt": "2\n"}
            assert len(await said(call, cut_off)) == 4
            return
        elif what == "conversation":
            assert (await call(*CONVERSATIONS, cut_off)).status == 200
        assert await said(call, cut_off) == rest
        assert not timeline_of(cut_off).with_suffix(".rewind").exists()

    async def test_before_it_was_done_is_taken_back(
        self,
        call: Call,
        write: Write,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        id = await write("a.txt", "1\n")
        await write("b.txt", "2\n", id)
        before = look(root)

        def fails(*given: Any) -> None:
            raise ClaudeError("The disk is full.")

        with monkeypatch.context() as patched:
            patched.setattr(Timeline, "save_now", fails)
            failed = await rewind(call, id, 2)
        assert (failed.status, failed.body["error"]["code"]) == (500, "rewind_failed")
        assert "The disk is full." in failed.body["error"]["message"]
        assert look(root) == before
        assert len(await said(call, id)) == 4
        assert len(await numbered(call, id)) == 2
        assert (await rewind(call, id, 2)).status == 200

    async def test_that_cannot_be_seen_to_leaves_the_conversation_to_be_deleted(
        self, call: Call, cut_off: str
    ) -> None:
        timeline_of(cut_off).with_suffix(".rewind").write_text("half a jour")
        failed = await call(*CONVERSATIONS, cut_off, "items")
        assert (failed.status, failed.body["error"]["code"]) == (500, "rewind_failed")
        body = chat("And now?", conversation_id=cut_off, ccapi=EDITING)
        assert (await call(*CHAT, json=body)).status == 500
        assert (await call(*CONVERSATIONS, cut_off, method="DELETE")).status == 200
        assert not timeline_of(cut_off).exists()
        assert (await call(*CONVERSATIONS, cut_off)).status == 404


class TestWhatIsKept:
    """Beside the database."""

    async def test_goes_with_its_conversation(self, call: Call, write: Write, root: Path) -> None:
        id, other = await write("a.txt", "1\n"), await write("b.txt", "2\n")
        snapshots = Snapshots(data_folder() / "snapshots", root)
        assert set(snapshots.owners()) == {id, other}
        await call(*CONVERSATIONS, id, method="DELETE")
        assert snapshots.owners() == [other]
        assert list(timeline_of(id).parent.glob(f"*{id}*")) == []
        assert timeline_of(other).exists()
        assert (await call(*CONVERSATIONS, id, "checkpoints")).status == 404

    async def test_goes_when_its_conversation_expires(
        self, call: Call, app: CCApiApp, write: Write, root: Path
    ) -> None:
        old, new = await write("a.txt", "1\n"), await write("b.txt", "2\n")
        threads = app.gateway.threads
        moment = time.time()
        await app.gateway.store.conversations.update("owner", new, title="new")
        for id in (old, new):
            os.utime(timeline_of(id), (1.0, 1.0))
        await app.gateway.store.conversations.expire(moment)
        threads._expired_at = 0.0
        await threads.expire()
        assert not timeline_of(old).exists()
        assert timeline_of(new).exists()
        assert Snapshots(data_folder() / "snapshots", root).owners() == [new]
        assert len(await numbered(call, new)) == 1

    async def test_of_a_turn_that_failed_in_a_new_conversation_is_nothing(
        self, call: Call, model: OfflineModel, root: Path
    ) -> None:
        model.script(*[Reply(error=ApiError(400, "", "No."))] * 9)
        assert (await call(*CHAT, json=chat("Hi", ccapi=EDITING))).status == 400
        assert list((data_folder() / "timelines" / "server").iterdir()) == []

    async def test_that_cannot_be_read_is_said_so_and_keeps_nobody_from_chatting(
        self, call: Call, model: OfflineModel, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        timeline_of(id).write_text("{")
        for answer in (await rewind(call, id, 1), await call(*CONVERSATIONS, id, "checkpoints")):
            error = answer.body["error"]
            assert (answer.status, error["code"]) == (500, "rewind_failed")
            assert "Move the file away" in error["message"]
        await write("a.txt", "2\n", id)
        assert len(await said(call, id)) == 4
        assert (await call(*CONVERSATIONS, id, method="DELETE")).status == 200
        assert not timeline_of(id).exists()


class TestWhoMay:
    """Rewind files."""

    @pytest.fixture
    def keys(self, jp_serverapp: ServerApp) -> dict[str, Key]:
        """The keys that there are, by their secrets."""
        there_are = {SECRET: key()}

        async def verify(secret: str) -> Key | None:
            return there_are.get(secret)

        jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
        return there_are

    async def by_key(self, call: Call, id: str, **fields: Any) -> Any:
        body = json.dumps({"checkpoint": 1, **fields})
        path = (*CONVERSATIONS, id, "rewind")
        return await call(*path, method="POST", body=body, headers=bearer(SECRET))

    async def test_is_whoever_can_have_an_agent_change_them(
        self, call: Call, app: CCApiApp, write: Write, root: Path, keys: dict[str, Key]
    ) -> None:
        id = await write("a.txt", "1\n")
        assert (await self.by_key(call, id, dry_run=True)).status == 200
        app.agent_permission_modes, app.agent_allowed_tools = ["default", "plan"], []
        for fields in ({}, {"dry_run": True}, {"conversation": False}):
            refused = await self.by_key(call, id, **fields)
            error = refused.body["error"]
            assert (refused.status, error["param"], error["code"]) == (403, "files", "not_allowed")
        assert look(root) == {"a.txt": "1\n"}
        assert (await self.by_key(call, id, files=False)).status == 200
        # The server's owner may do anything with these files.
        assert (await undo(call, id)).status == 200
        assert (await rewind(call, id, 1)).status == 200
        assert look(root) == {}
        refused = await call(
            *CONVERSATIONS, id, "rewind", "undo", method="POST", body="", headers=bearer(SECRET)
        )
        assert (refused.status, refused.body["error"]["param"]) == (403, "files")

    async def test_is_nobody_without_agents_or_outside_of_their_folders(
        self, call: Call, app: CCApiApp, write: Write, root: Path, tmp_path: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        app.agent_mode = False
        refused = await rewind(call, id, 1)
        assert (refused.status, refused.body["error"]["param"]) == (403, "files")
        assert "agent_mode" in refused.body["error"]["message"]
        app.agent_mode = True
        record = json.loads(timeline_of(id).read_text())
        timeline_of(id).write_text(json.dumps({**record, "folder": str(tmp_path)}))
        refused = await rewind(call, id, 1)
        assert (refused.status, "additional_folders" in refused.body["error"]["message"]) == (
            403,
            True,
        )
        assert look(root) == {"a.txt": "1\n"}

    async def test_is_no_key_whose_budget_is_spent(
        self, call: Call, write: Write, keys: dict[str, Key]
    ) -> None:
        id = await write("a.txt", "1\n")
        keys[SECRET] = key(budget_usd=1.0, spent_usd=1.0)
        assert (await self.by_key(call, id)).status == 429
        answer = await call(*CONVERSATIONS, id, "checkpoints", headers=bearer(SECRET))
        assert answer.status == 200

    async def test_is_nobody_elses_business(
        self, call: Call, app: CCApiApp, write: Write, root: Path
    ) -> None:
        id = await write("a.txt", "1\n")
        assert app.serverapp is not None
        settings = app.serverapp.web_app.settings
        settings["ccapi_identify"] = lambda handler: Principal("another", "another")
        assert (await rewind(call, id, 1)).status == 404
        assert (await undo(call, id)).status == 404
        assert (await call(*CONVERSATIONS, id, "checkpoints")).status == 404
        assert look(root) == {"a.txt": "1\n"}


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "checkpoint", "Missing"),
        ({"checkpoint": "1"}, "checkpoint", "an integer"),
        ({"checkpoint": 0}, "checkpoint", "at least 1"),
        ({"checkpoint": 7}, "checkpoint", "it has 1 to 2"),
        ({"checkpoint": 1, "files": "no"}, "files", "true or false"),
        ({"checkpoint": 1, "conversation": 0}, "conversation", "true or false"),
        ({"checkpoint": 1, "dry_run": 1}, "dry_run", "true or false"),
        ({"checkpoint": 1, "force": "yes"}, "force", "true or false"),
        ({"checkpoint": 1, "dryrun": True}, "dryrun", "There is no dryrun"),
        ({"checkpoint": 1, "files": False, "conversation": False}, "conversation", "Neither"),
        ([], None, "an object"),
    ],
)
async def test_a_wrong_body_is_named_and_does_nothing(
    call: Call, model: OfflineModel, body: Any, param: str | None, said: str
) -> None:
    id = await talk(call, model, "one", "two", "three", "four")
    answer = await call(*CONVERSATIONS, id, "rewind", json=body)
    error = answer.body["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert said in error["message"]
    assert len(await numbered(call, id)) == 2


async def test_an_undo_says_what_is_wrong_too(call: Call, model: OfflineModel) -> None:
    id = await talk(call, model, "one", "two")
    answer = await undo(call, id, checkpoint=1)
    assert (answer.status, answer.body["error"]["param"]) == (400, "checkpoint")
    assert (await undo(call, id, force=None)).body["error"]["code"] == "rewind_refused"


async def test_a_conversation_that_is_not_there_is_a_404(call: Call) -> None:
    for id in ("conv_nobody", f"conv_{0:032x}"):
        for answer in (
            await call(*CONVERSATIONS, id, "checkpoints"),
            await rewind(call, id, 1),
            await undo(call, id),
        ):
            assert (answer.status, answer.body["error"]["code"]) == (404, "conversation_not_found")


async def test_an_empty_conversation_has_no_checkpoints(call: Call) -> None:
    id = (await call(*CONVERSATIONS, json={})).body["id"]
    assert await checkpoints(call, id) == ([], False)
    answer = await rewind(call, id, 1)
    assert (answer.status, "none yet" in answer.body["error"]["message"]) == (400, True)


async def test_a_turn_whose_end_nobody_saw_can_be_rewound_by_force(
    call: Call, write: Write, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await write("a.txt", "1\n")
    with monkeypatch.context() as patched:
        # Its server goes before it can note anything.
        patched.setattr(Mark, "_end", lambda mark, *given: mark.drop())
        await write("b.txt", "2\n", id)
    assert await numbered(call, id) == [(1, "Write a.txt"), (2, "Write b.txt")]
    assert (await rewind(call, id, 2)).body["error"]["code"] == "conflict"
    await write("c.txt", "3\n", id)
    assert [number for number, _ in await numbered(call, id)] == [1, 2, 3]
    assert (await rewind(call, id, 2, force=True)).status == 200
    assert look(root) == {"a.txt": "1\n"}
    assert await said(call, id) == ["Write a.txt", "Wrote a.txt."]


async def test_nobody_finishes_the_rewind_of_anothers_conversation(
    call: Call, app: CCApiApp, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await write("a.txt", "1\n")

    async def crash(talk: StoredTalk, head: Any) -> None:
        raise OSError("The power is off.")

    with monkeypatch.context() as patched:
        patched.setattr(StoredTalk, "go", crash)
        assert (await rewind(call, id, 1)).status == 500
    assert app.serverapp is not None
    settings = app.serverapp.web_app.settings
    with monkeypatch.context() as patched:
        patched.setitem(settings, "ccapi_identify", lambda handler: Principal("another", "another"))
        assert (await call(*CONVERSATIONS, id, "items")).status == 404
    assert timeline_of(id).with_suffix(".rewind").exists()
    assert await said(call, id) == []
