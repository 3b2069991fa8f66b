"""Agent mode over HTTP: Claude Code's own tools, within what the server's options allow."""

from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.support import messages_sent
from tests.server.chats import CHAT, Call, assembled, chat

AGENT = {"mode": "agent"}


@pytest.fixture
def root(jp_serverapp: ServerApp) -> Path:
    """The server's own folder."""
    return Path(jp_serverapp.root_dir)


def reads(path: Path) -> Reply:
    return Reply("Let me look.", tools=[("Read", {"file_path": str(path)})])


def writes(path: Path) -> Reply:
    return Reply(tools=[("Write", {"file_path": str(path), "content": "secret"})])


@pytest.mark.parametrize("stream", [False, True])
async def test_its_own_tools_are_told_as_reasoning_and_never_as_calls(
    call: Call, model: OfflineModel, root: Path, stream: bool
) -> None:
    (root / "note.txt").write_text("It is 42.")
    model.script(reads(root / "note.txt"), Reply("It says 42."))
    answer = await call(*CHAT, json=chat("What?", ccapi=AGENT, stream=stream))
    if stream:
        message = assembled(answer.body)
        assert "Read" in answer.body
    else:
        message = answer.body["choices"][0]["message"]
        assert "[Read: " in message["reasoning_content"]
    assert message["content"] == "Let me look.\n\nIt says 42."
    assert not message.get("tool_calls")
    assert "It is 42." in model.main_requests[-1].tool_results[-1].text


async def test_what_would_need_a_permission_is_denied_and_the_answer_says_so(
    call: Call, model: OfflineModel, root: Path
) -> None:
    model.script(writes(root / "new.txt"), Reply("I could not."))
    answer = await call(*CHAT, json=chat("Write", ccapi=AGENT))
    content = answer.body["choices"][0]["message"]["content"]
    assert content.startswith("I could not.")
    assert "permission" in content
    assert answer.body["ccapi"] == {"permission_denials": ["Write"]}
    assert not (root / "new.txt").exists()


async def test_a_conversation_goes_on_with_all_that_the_agent_has_seen(
    call: Call, model: OfflineModel, root: Path
) -> None:
    (root / "note.txt").write_text("It is 42.")
    model.script(reads(root / "note.txt"), Reply("It says 42."), Reply("Yes."))
    first = await call(*CHAT, json=chat("What?", ccapi=AGENT))
    message = first.body["choices"][0]["message"]
    body = chat("What?", ccapi=AGENT)
    body["messages"] += [
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": "Sure?"},
    ]
    await call(*CHAT, json=body)
    sent = messages_sent(model.main_requests[-1])
    kinds = [[block["type"] for block in blocks] for _, blocks in sent]
    assert kinds[1] == ["text", "tool_use"]
    assert "tool_result" in kinds[2]


async def test_files_elsewhere_are_not_read(
    call: Call, model: OfflineModel, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere.txt").write_text("a secret")
    model.script(reads(tmp_path / "elsewhere.txt"), Reply("I may not."))
    answer = await call(*CHAT, json=chat(ccapi=AGENT))
    assert answer.body["ccapi"] == {"permission_denials": ["Read"]}
    assert "a secret" not in str(model.main_requests[-1].body)


async def test_it_works_in_a_folder_of_the_servers(
    call: Call, model: OfflineModel, root: Path
) -> None:
    (root / "sub").mkdir()
    await call(*CHAT, json=chat(ccapi={**AGENT, "cwd": "sub"}))
    assert str(root / "sub") in str(model.main_requests[-1].body)


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"cwd": "/etc"}, "ccapi.cwd"),
        ({"cwd": ".."}, "ccapi.cwd"),
        ({"cwd": "link"}, "ccapi.cwd"),
        ({"permission_mode": "acceptEdits"}, "ccapi.permission_mode"),
        ({"permission_mode": "bypassPermissions"}, "ccapi.permission_mode"),
        ({"allowed_tools": ["Bash"]}, "ccapi.allowed_tools"),
        # By its bare name, it opens every file of the machine.
        ({"allowed_tools": ["Read"]}, "ccapi.allowed_tools"),
    ],
)
async def test_more_than_the_options_allow_is_refused(
    call: Call, model: OfflineModel, root: Path, wish: dict[str, Any], param: str
) -> None:
    (root / "link").symlink_to("/etc")
    answer = await call(*CHAT, json=chat(ccapi={**AGENT, **wish}))
    assert (answer.status, answer.body["error"]["param"]) == (403, param)
    assert "option" in answer.body["error"]["message"]
    assert model.requests == []


async def test_a_folder_that_is_not_there_is_a_400(call: Call) -> None:
    answer = await call(*CHAT, json=chat(ccapi={**AGENT, "cwd": "nothing"}))
    assert (answer.status, answer.body["error"]["param"]) == (400, "ccapi.cwd")


async def test_what_is_for_agents_means_nothing_in_a_chat(call: Call) -> None:
    answer = await call(*CHAT, json=chat(ccapi={"cwd": "."}))
    assert (answer.status, answer.body["error"]["param"]) == (400, "ccapi.cwd")


async def test_a_failed_turn_that_has_changed_something_is_not_to_be_retried(
    call: Call, model: OfflineModel, root: Path
) -> None:
    refused = Reply(error=ApiError(400))
    model.script(Reply(tools=[("Bash", {"command": "ls"})]), *[refused] * 6)
    answer = await call(*CHAT, json=chat(ccapi=AGENT))
    assert answer.status == 400
    assert answer.headers["x-should-retry"] == "false"


class TestWidened:
    """A server whose owner allows more."""

    @pytest.fixture
    def ccapi_config(self, tmp_path: Path) -> dict[str, Any]:
        further = tmp_path / "further"
        further.mkdir()
        return {
            "additional_folders": [str(further)],
            "agent_permission_modes": ["default", "acceptEdits"],
            "agent_max_budget_usd": 1.0,
            "default_mode": "agent",
        }

    async def test_files_are_written_where_that_is_allowed(
        self, call: Call, model: OfflineModel, tmp_path: Path
    ) -> None:
        path = tmp_path / "further" / "new.txt"
        model.script(writes(path), Reply("Done."))
        wish = {"permission_mode": "acceptEdits", "cwd": str(path.parent)}
        answer = await call(*CHAT, json=chat(ccapi=wish))
        assert answer.body["choices"][0]["message"]["content"] == "Done."
        assert path.read_text() == "secret"

    async def test_a_budget_has_a_bound(self, call: Call) -> None:
        answer = await call(*CHAT, json=chat(ccapi={"max_budget_usd": 2.0}))
        assert (answer.status, answer.body["error"]["param"]) == (403, "ccapi.max_budget_usd")
        assert (await call(*CHAT, json=chat(ccapi={"max_budget_usd": 0.5}))).status == 200

    async def test_a_budget_that_is_spent_before_an_answer_is_said_so(
        self, call: Call, model: OfflineModel
    ) -> None:
        bash = Reply(tools=[("Bash", {"command": "ls"})], input_tokens=10_000_000)
        model.script(bash, bash, Reply("never"))
        answer = await call(*CHAT, json=chat(ccapi={"max_budget_usd": 0.01}))
        assert (answer.status, answer.body["error"]["code"]) == (402, "budget_exceeded")
        assert answer.headers["x-should-retry"] == "false"

    async def test_a_chat_can_still_be_asked_for(self, call: Call, model: OfflineModel) -> None:
        await call(*CHAT, json=chat(ccapi={"mode": "chat"}))
        assert model.main_requests[-1].tools == []


class TestSwitchedOff:
    """A server without agents."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"agent_mode": False}

    async def test_there_are_none(self, call: Call, model: OfflineModel) -> None:
        answer = await call(*CHAT, json=chat(ccapi=AGENT))
        assert (answer.status, answer.body["error"]["param"]) == (403, "ccapi.mode")
        assert "agent_mode" in answer.body["error"]["message"]
        assert (await call(*CHAT, json=chat())).status == 200
