"""What the core uses of claude-agent-sdk beyond its public names, or beyond what these promise.

Where one of these fails after an update of the SDK, the code that it names has to follow.
"""

import inspect
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ResultMessage,
    StreamEvent,
    Transport,
    project_key_for_directory,
)
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from jupyter_ccapi.claude import Options
from jupyter_ccapi.claude.guard import MARK, Guard
from jupyter_ccapi.claude.options import _OURS, to_sdk
from jupyter_ccapi.claude.transport import CLITransport

CLI_PATH = Path("/usr/bin/claude")


def command(options: ClaudeAgentOptions) -> list[str]:
    """The command line that the SDK makes of options."""
    return SubprocessCLITransport(prompt="", options=options)._build_command()


def test_the_command_line_is_the_sdks_and_needs_no_process() -> None:
    # transport.py: CLITransport.connect
    chosen = to_sdk(Options(model="opus", effort="low"), cli_path=CLI_PATH)
    chosen.session_id = "3b0f5e0e-0000-4000-8000-000000000000"
    words = command(chosen)
    assert words[0] == str(CLI_PATH)
    for flag, value in (
        ("--input-format", "stream-json"),
        ("--output-format", "stream-json"),
        ("--model", "opus"),
        ("--effort", "low"),
        ("--tools", ""),
        ("--system-prompt", ""),
        ("--permission-mode", "dontAsk"),
    ):
        assert words[words.index(flag) + 1] == value
    for flag in (
        "--verbose",
        "--include-partial-messages",
        "--strict-mcp-config",
        "--setting-sources=",
        "--disable-slash-commands",
        f"--session-id={chosen.session_id}",
    ):
        assert flag in words


def test_a_session_is_resumed_by_a_flag_of_one_word() -> None:
    # process.py: Process.start
    assert "--resume=abc" in command(ClaudeAgentOptions(cli_path=CLI_PATH, resume="abc"))


def test_a_system_prompt_may_come_in_a_file() -> None:
    # process.py: _prompt_in_file
    words = command(
        ClaudeAgentOptions(cli_path=CLI_PATH, system_prompt={"type": "file", "path": "/a/prompt"})
    )
    assert words[words.index("--system-prompt-file") + 1] == "/a/prompt"
    added = ClaudeAgentOptions(
        cli_path=CLI_PATH,
        system_prompt={"type": "preset", "preset": "claude_code"},
        extra_args={"append-system-prompt-file": "/a/prompt"},
    )
    words = command(added)
    assert words[words.index("--append-system-prompt-file") + 1] == "/a/prompt"


async def test_the_environment_is_that_of_the_sdks_own_transport(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # transport.py: CLITransport._environment
    class Enough(Exception):
        pass

    started: dict[str, Any] = {}

    async def open_process(*_: Any, **how: Any) -> None:
        started.update(how)
        raise Enough

    monkeypatch.setattr(anyio, "open_process", open_process)
    monkeypatch.setattr(
        "claude_agent_sdk._internal.transport.subprocess_cli.anyio.open_process", open_process
    )
    options = ClaudeAgentOptions(
        cli_path=CLI_PATH, cwd=tmp_path, env={"MINE": "1"}, enable_file_checkpointing=True
    )
    with pytest.raises(Exception, match="Failed to start"):
        await SubprocessCLITransport(prompt="", options=options).connect()
    theirs = {name for name in started["env"] if os.environ.get(name) != started["env"][name]}
    ours = CLITransport(options, Guard())._environment()
    # The SDK says which program uses it where it finds out; that is its vendor's to count.
    theirs -= {"CLAUDE_AGENT_SDK_CLIENT_APP_DERIVED"}
    assert {name: ours.get(name) for name in theirs} == {
        name: started["env"][name] for name in theirs
    }
    assert MARK in ours


def test_the_client_takes_a_transport_of_ours() -> None:
    # process.py: Process._connected
    assert "transport" in inspect.signature(ClaudeSDKClient).parameters
    wanted = {"connect", "write", "read_messages", "close", "is_ready", "end_input"}
    assert set(Transport.__abstractmethods__) == wanted
    assert not CLITransport.__abstractmethods__


def test_messages_name_the_prompt_that_they_answer() -> None:
    # dialogue.py: Dialogue.messages
    for kind in (AssistantMessage, ResultMessage, StreamEvent):
        assert "user_message_uuids" in kind.__dataclass_fields__
    assert {"user_message_uuid", "origin"} <= set(ResultMessage.__dataclass_fields__)


def test_the_options_that_are_ours_to_set_exist() -> None:
    # options.py: _OURS
    assert set(_OURS) <= set(ClaudeAgentOptions.__dataclass_fields__)


def test_the_folder_of_a_transcript_has_the_name_that_the_cli_gives_it(tmp_path: Path) -> None:
    # history.py: transcript_path; tests/claude/test_history.py holds it against the real CLI.
    (tmp_path / "a b.c").mkdir()
    name = project_key_for_directory(tmp_path / "a b.c")
    assert name.endswith("-a-b-c")
    assert "/" not in name
