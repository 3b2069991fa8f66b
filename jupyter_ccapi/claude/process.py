"""One Claude Code process, from its start to its end, driven through the SDK's client."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage
from claude_agent_sdk import Message as SDKMessage

# Not public: the SDK does this by itself only over its own transport (see
# tests/claude/test_sdk_seams.py).
from claude_agent_sdk._internal.session_resume import (
    MaterializedResume,
    apply_materialized_options,
    materialize_resume_session,
)

from .cli import CLI
from .errors import CLIStartFailed, ProcessDied
from .guard import Guard
from .history import Content, Message, transcript
from .options import Options, to_sdk
from .transport import CLITransport


class Process:
    """A running CLI that holds one conversation. ``total_cost`` is in USD, over all its turns."""

    def __init__(
        self, client: ClaudeSDKClient, transport: CLITransport, resumed: MaterializedResume | None
    ) -> None:
        self.total_cost = 0.0
        self._client = client
        self._transport = transport
        self._resumed = resumed

    @classmethod
    async def start(
        cls,
        options: Options,
        *,
        cli: CLI,
        guard: Guard,
        environment: Mapping[str, str],
        session_id: str,
        resume: bool = False,
        history: Sequence[Message] = (),
        persist: bool = True,
        patience: float = 30.0,
    ) -> "Process":
        """Start a CLI and wait until it takes prompts (at most ``patience`` seconds).

        With ``resume`` it takes up the session ``session_id`` from its own transcript; with
        ``history`` it begins a conversation that already has these messages. Without ``persist``
        no transcript is written. Raises ``CLIStartFailed``.
        """
        chosen = to_sdk(options, cli_path=cli.path)
        chosen.env = {**environment, **chosen.env}
        resumed = None
        if history:
            chosen, resumed = await _with_history(chosen, history)
        elif resume:
            chosen.resume = session_id
        else:
            chosen.session_id = session_id
            if not persist:
                chosen.extra_args = {**chosen.extra_args, "no-session-persistence": None}
        transport = CLITransport(chosen, guard)
        process = cls(ClaudeSDKClient(chosen, transport), transport, resumed)
        try:
            async with asyncio.timeout(patience):
                await process._client.connect()
        except BaseException as error:
            await process.close()
            if isinstance(error, TimeoutError):
                said = f"Claude Code did not come up within {patience:.0f} seconds"
            elif isinstance(error, Exception):
                said = f"Claude Code did not come up: {error}"
            else:
                raise
            raise CLIStartFailed(
                f"{said}. {transport.stderr}".strip(),
                exit_code=transport.exit_code,
                stderr=transport.stderr,
            ) from error
        return process

    @property
    def pid(self) -> int | None:
        """The CLI's process id."""
        return self._transport.pid

    @property
    def alive(self) -> bool:
        """Whether it can take another turn."""
        return self._transport.is_ready()

    async def reported_models(self) -> list[dict[str, Any]]:
        """The models that this CLI offers its account: ``value`` (alias), ``resolvedModel``,
        ``displayName`` …
        """
        info = await self._client.get_server_info()
        return list((info or {}).get("models", []))

    async def set_model(self, model: str | None) -> None:
        """Switch the model from the next turn on."""
        await self._client.set_model(model)

    async def turn(self, content: Content) -> AsyncIterator[SDKMessage]:
        """Send one prompt and yield what the CLI says until its result. Raises ``ProcessDied``."""
        # An id of our own on each prompt: the CLI's checkpoints and results go by it.
        prompt = {
            "type": "user",
            "uuid": str(uuid4()),
            "message": {"role": "user", "content": content},
            "parent_tool_use_id": None,
        }
        try:
            await self._client.query(_only(prompt))
            async for message in self._client.receive_response():
                yield message
                if isinstance(message, ResultMessage):
                    return
        except Exception as error:
            raise await self._died() from error
        raise await self._died()

    async def _died(self) -> ProcessDied:
        await self.close()
        code = self._transport.exit_code
        return ProcessDied(
            f"Claude Code ended in the middle of the turn (exit code {code}). "
            "The conversation is kept up to its last prompt: send again to go on.",
            exit_code=code,
            stderr=self._transport.stderr,
        )

    async def interrupt(self, patience: float = 5.0) -> None:
        """Ask the CLI to end its turn; its result still comes through ``turn()``.

        A CLI that does not obey within ``patience`` seconds is killed.
        """
        try:
            async with asyncio.timeout(patience):
                await self._client.interrupt()
        except Exception:
            self.kill()

    async def close(self) -> None:
        """End the process and remove what was made for it; safe to call twice."""
        with suppress(Exception):
            await self._client.disconnect()
        await self._transport.close()
        if self._resumed is not None:
            await self._resumed.cleanup()
            self._resumed = None

    def kill(self) -> None:
        """End the process at once; ``close()`` must still be awaited."""
        self._transport.kill()


async def _only(prompt: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield prompt


async def _with_history(
    options: ClaudeAgentOptions, history: Sequence[Message]
) -> tuple[ClaudeAgentOptions, MaterializedResume]:
    """Lay the history out where the CLI resumes from: a folder of its own, removed when the
    process is.
    """
    cwd = Path(options.cwd or Path.cwd())
    store: Any = transcript(history, cwd=cwd)
    asked = replace(options, cwd=cwd, session_store=store, resume=store.session_id)
    resumed = await materialize_resume_session(asked)
    assert resumed is not None, "a transcript of our own is always found"
    # Without the store: nothing needs to be mirrored, the client holds its own history.
    return replace(apply_materialized_options(asked, resumed), session_store=None), resumed
