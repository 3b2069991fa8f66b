"""One Claude Code process, from its start to its end, driven through the SDK's client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, TaskStartedMessage
from claude_agent_sdk import Message as SDKMessage

from .cli import CLI
from .errors import CLIStartFailed, InvalidOption, ProcessDied
from .guard import Guard
from .history import Content, Session, transcript_path, write_transcript
from .options import Options, to_sdk
from .transport import CLITransport

# How long a CLI may take to answer what it answers in milliseconds; then it hangs and is killed.
_ANSWER_PATIENCE = 5.0


class Process:
    """A running CLI that holds one conversation."""

    def __init__(self, client: ClaudeSDKClient, transport: CLITransport) -> None:
        self._client = client
        self._transport = transport
        self._in_turn = False
        self._has_background = False

    @classmethod
    async def start(
        cls,
        options: Options,
        session: Session,
        *,
        cli: CLI,
        guard: Guard,
        environment: Mapping[str, str],
        patience: float = 30.0,
    ) -> "Process":
        """Start a CLI and wait until it takes prompts (at most ``patience`` seconds).

        Raises ``CLIStartFailed``, and ``InvalidOption`` for what the SDK does not take. Cancelled,
        it returns when what it has started has ended.
        """
        chosen = to_sdk(options, cli_path=cli.path)
        chosen.env = {**environment, **chosen.env}
        if not session.persist:
            chosen.extra_args = {**chosen.extra_args, "no-session-persistence": None}
        path = transcript_path(session.id, cwd=options.cwd, environment=chosen.env)
        seeded = bool(session.history) and not path.exists()
        if seeded or path.exists() or session.known:
            chosen.resume = session.id
        else:
            chosen.session_id = session.id
        started = False
        try:
            if seeded:
                write_transcript(path, session.history, cwd=options.cwd)
            with TemporaryDirectory(prefix="ccapi-") as folder:
                chosen = _prompt_in_file(chosen, Path(folder) / "system-prompt")
                process = await cls._connected(chosen, guard, patience)
            started = True
        finally:
            # The CLI has read it by now.
            if seeded and not (started and session.persist):
                path.unlink(missing_ok=True)
        return process

    @classmethod
    async def _connected(
        cls, options: ClaudeAgentOptions, guard: Guard, patience: float
    ) -> "Process":
        # The CLI is to ask us; the client sees to that only over the SDK's own transport.
        asking = "stdio" if options.can_use_tool else options.permission_prompt_tool_name
        transport = CLITransport(replace(options, permission_prompt_tool_name=asking), guard)
        process = cls(ClaudeSDKClient(options, transport), transport)
        try:
            async with asyncio.timeout(patience):
                await process._client.connect()
        except BaseException as error:
            if isinstance(error, TimeoutError):
                transport.kill()
                said = f"Claude Code did not come up within {patience:g} seconds"
            elif isinstance(error, Exception):
                said = f"Claude Code did not come up: {error}".rstrip(".")
            await process.close()
            if not isinstance(error, Exception):
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
        """Switch the model from the next turn on. Raises ``ProcessDied``."""
        try:
            async with asyncio.timeout(_ANSWER_PATIENCE):
                await self._client.set_model(model)
        except Exception as error:
            raise await self._died() from error

    async def turn(self, content: Content) -> AsyncGenerator[SDKMessage, None]:
        """Send one prompt and yield what the CLI says, its result last.

        Raises ``ProcessDied``, and ``InvalidOption`` for content that is not JSON.
        """
        # An id of our own on each prompt: the CLI's checkpoints and results go by it.
        uuid = str(uuid4())
        prompt = {
            "type": "user",
            "uuid": uuid,
            "message": {"role": "user", "content": content},
            "parent_tool_use_id": None,
        }
        self._in_turn = True
        result: ResultMessage | None = None
        try:
            await self._client.query(_only(prompt))
            async with aclosing(self._messages(uuid)) as messages:
                async for message in messages:
                    if isinstance(message, ResultMessage):
                        result = message
                    else:
                        yield message
        except (TypeError, ValueError) as error:
            raise InvalidOption("content", f"The prompt cannot be sent: {error}.") from error
        except Exception as error:
            raise await self._died() from error
        if result is None:
            raise await self._died()
        self._in_turn = False
        yield result

    async def _messages(self, uuid: str) -> AsyncGenerator[SDKMessage, None]:
        """The messages of the turn that answers the prompt with this id, its result last.

        A command that was left in the background begins a turn of its own when it ends, between
        our turns or in front of one: that is for the model to know and not part of our answer.
        """
        ours = not self._has_background
        held: list[SDKMessage] = []
        messages: Any = self._client.receive_messages()
        async with aclosing(messages):
            async for message in messages:
                self._has_background |= isinstance(message, TaskStartedMessage)
                ours = ours or _belongs(message, uuid)
                if not ours and not isinstance(message, ResultMessage):
                    held.append(message)
                    continue
                if ours:
                    for earlier in held:
                        yield earlier
                    yield message
                    if isinstance(message, ResultMessage):
                        return
                held.clear()

    async def _died(self) -> ProcessDied:
        await self.close()
        code = self._transport.exit_code
        return ProcessDied(
            f"Claude Code ended in the middle of the turn (exit code {code}). "
            "The conversation is kept up to its last prompt: send again to go on.",
            exit_code=code,
            stderr=self._transport.stderr,
        )

    async def interrupt(self) -> bool:
        """Ask the CLI to end its turn, whose result still comes through ``turn()``; False where it
        does not even answer.
        """
        try:
            async with asyncio.timeout(_ANSWER_PATIENCE):
                await self._client.interrupt()
        except Exception:
            return False
        return True

    async def close(self) -> None:
        """End the process; safe to call twice. One in the middle of a turn is told to end at once:
        at the end of its input alone it would go on reading the model.
        """
        if self._in_turn:
            self._transport.terminate()
        with suppress(Exception):
            await self._client.disconnect()
        await self._transport.close()

    def kill(self) -> None:
        """End the process at once; ``close()`` must still be awaited."""
        self._transport.kill()


def _belongs(message: SDKMessage, uuid: str) -> bool:
    """Whether this message says that its turn answers the prompt with this id."""
    if isinstance(message, ResultMessage):
        named = message.user_message_uuids or [message.user_message_uuid or ""]
        # An interrupted turn may name none.
        return uuid in named or (named == [""] and message.origin is None)
    return uuid in (getattr(message, "user_message_uuids", None) or ())


async def _only(prompt: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield prompt


def _prompt_in_file(options: ClaudeAgentOptions, path: Path) -> ClaudeAgentOptions:
    """Hand the system prompt over in a file, which the CLI has read when it is up: everybody on
    the machine can read a command line, and 128 KB are the most that fits into a word of it.
    """
    prompt: Any = options.system_prompt
    text = prompt.get("append") if isinstance(prompt, dict) else prompt
    if not text:
        return options
    path.touch(mode=0o600)
    path.write_bytes(text.encode("utf-8", "replace"))
    if isinstance(prompt, str):
        return replace(options, system_prompt={"type": "file", "path": str(path)})
    rest: Any = {name: value for name, value in prompt.items() if name != "append"}
    extra = {**options.extra_args, "append-system-prompt-file": str(path)}
    return replace(options, system_prompt=rest, extra_args=extra)
