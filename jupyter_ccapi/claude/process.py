"""One Claude Code process, driven through the SDK's client."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, TaskStartedMessage
from claude_agent_sdk import Message as SDKMessage

from .capabilities import Capabilities
from .errors import CLIStartFailed, InvalidOption, ProcessDied
from .events import Spent
from .guard import Guard
from .history import Content, Held, Message, way_to
from .options import check_model
from .recording import Recorder
from .tools import SERVER, Tool, Toolbox
from .transport import CLITransport

# How long a CLI may take to answer what it answers in milliseconds; then it hangs and is killed.
_ANSWER_PATIENCE = 5.0
# As many files as a conversation has changed are written for it.
_REWIND_PATIENCE = 30.0
# A prompt with this is added to the history, and the model is not asked.
_UNANSWERED = {"shouldQuery": False}


class Process:
    """A running CLI that holds one conversation at a time.

    ``held`` is what it holds, None where that is in doubt; ``session_id`` its session's name,
    ``model`` what it answers with, ``total`` what it has counted up to now.
    """

    def __init__(self, transport: CLITransport, session_id: str) -> None:
        self.session_id = session_id
        self.model: str | None = None
        self.held: list[Held] | None = []
        self.total: Spent | None = None
        self.toolbox = Toolbox()
        self._transport = transport
        self._client: ClaudeSDKClient | None = None
        self._in_turn = False
        self._has_background = False

    @classmethod
    async def launch(
        cls,
        options: ClaudeAgentOptions,
        session_id: str,
        guard: Guard,
        inherited: Mapping[str, str] | None = None,
    ) -> "Process":
        """Start a CLI, which then waits to be initialized; ``inherited`` stands in place of this
        process's environment. Raises ``CLIStartFailed``.
        """
        # The CLI is to ask us; the client sees to that only over the SDK's own transport.
        asking = "stdio" if options.can_use_tool else options.permission_prompt_tool_name
        chosen = replace(options, permission_prompt_tool_name=asking)
        transport = CLITransport(chosen, guard, inherited)
        process = cls(transport, session_id)
        process.model = options.model
        try:
            await transport.connect()
        except BaseException as error:
            await transport.close()
            if not isinstance(error, Exception):
                raise
            raise process._not_up(f"Claude Code did not come up: {error}") from error
        return process

    async def initialize(
        self,
        options: ClaudeAgentOptions,
        *,
        tools: Sequence[Tool] = (),
        fields: Mapping[str, Any],
        patience: float,
    ) -> None:
        """Wait until it takes prompts (at most ``patience`` seconds), bound to these tools and to
        the further ``fields`` of the request.

        Raises ``CLIStartFailed``. Failed or cancelled, it returns when the CLI has ended.
        """
        self.toolbox.fill(tools)
        servers: Any = options.mcp_servers
        if isinstance(servers, dict) and SERVER in servers:
            servers = {**servers, SERVER: self.toolbox.server()}
        self._transport.bind(fields)
        self._client = ClaudeSDKClient(replace(options, mcp_servers=servers), self._transport)
        connecting = asyncio.create_task(self._client.connect())
        try:
            async with asyncio.timeout(patience):
                await asyncio.shield(connecting)
        except BaseException as error:
            self._transport.mute()
            connecting.cancel()
            await asyncio.wait([connecting])
            if isinstance(error, TimeoutError):
                self._transport.kill()
                said = f"Claude Code did not come up within {patience:g} seconds"
            else:
                said = f"Claude Code did not come up: {error}"
            await self.close()
            if not isinstance(error, Exception):
                raise
            raise self._not_up(said) from error

    def _not_up(self, said: str) -> CLIStartFailed:
        stderr = self._transport.stderr
        return CLIStartFailed(
            f"{said.rstrip('.')}. {stderr}".strip(),
            exit_code=self._transport.exit_code,
            stderr=stderr,
        )

    async def hold(self, history: Sequence[Message]) -> None:
        """Have it hold exactly these messages: what it holds beyond them is cut off, what is
        missing is added, without asking the model.

        Raises ``ProcessDied`` where it cannot; what it holds is in doubt then.

        Neither is public. ``rewind_conversation`` takes 2 to 10 ms, and nothing of what was cut
        off reaches the model any more (``/clear`` leaves a remark about itself). A user turn with
        ``shouldQuery: false`` is answered with a result at once, 8 to 12 ms each; the assistant
        turn after it must wait for that, or they come out of order. The capability probe finds
        out whether both work.
        """
        held, self.held = self.held, None
        way = way_to(held, history) if held is not None else None
        if held is None or way is None:
            raise ProcessDied("What Claude Code holds cannot be cut back that far.")
        try:
            if way.cut is not None:
                await self._cut(way.cut, held)
            added = [await self._add(message) for message in history[way.keep :]]
        except Exception as error:
            raise await self._died() from error
        self.held = [*held[: way.keep], *added]

    async def prime(self) -> None:
        """Have it go once through what the first prompt of a process pays for, as far as that
        can be had without asking the model. Raises ``ProcessDied``.
        """
        await self.hold([Message("user", "Hello")])
        await self.hold([])

    async def preview_rewind(self, checkpoint: str) -> dict[str, Any]:
        """Ask what ``rewind_files`` would change: ``filesChanged``, ``insertions``, ``deletions``.

        ``dry_run`` is not public: a CLI that does not know it may rewind. Raises as
        ``rewind_files`` does.
        """
        asking = self._transport.control("rewind_files", user_message_id=checkpoint, dry_run=True)
        answer: dict[str, Any] = await self._about(checkpoint, asking)
        if answer.get("canRewind") is not True:
            raise _no_checkpoint(checkpoint, answer.get("error"))
        return answer

    async def rewind_files(self, checkpoint: str) -> None:
        """Put the files that the CLI's tools have changed back to before the prompt with this
        uuid. Raises ``InvalidOption`` where the CLI has no such checkpoint, and ``ProcessDied``.
        """
        await self._about(checkpoint, self._connected.rewind_files(checkpoint))

    async def _about(self, checkpoint: str, asking: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(_REWIND_PATIENCE):
                return await asking
        except Exception as error:
            if isinstance(error, TimeoutError) or not self.alive:
                raise await self._died() from error
            raise _no_checkpoint(checkpoint, error) from error

    async def _cut(self, uuid: str, held: Sequence[Held]) -> None:
        last = next(one.uuid for one in reversed(held) if one.message.role == "user")
        async with asyncio.timeout(_ANSWER_PATIENCE):
            answer = await self._transport.control(
                "rewind_conversation", target_message_uuid=uuid, last_seen_user_message_uuid=last
            )
        if answer.get("rewound") is not True:
            raise ProcessDied(f"Claude Code did not cut its history: {answer.get('reason')}")

    async def _add(self, message: Message) -> Held:
        if message.role == "assistant":
            told = {"role": "assistant", "content": message.blocks}
            line = {"type": "assistant", "message": told, "parent_tool_use_id": None}
            await self._transport.write(json.dumps(line) + "\n")
            return Held(message)
        uuid = str(uuid4())
        async with asyncio.timeout(_ANSWER_PATIENCE):
            await self._connected.query(_only({**_prompt(message.content, uuid), **_UNANSWERED}))
            async with aclosing(self._messages(uuid)) as messages:
                async for _ in messages:
                    pass
        return Held(message, uuid)

    @property
    def _connected(self) -> ClaudeSDKClient:
        assert self._client is not None, "a process takes prompts when it is initialized"
        return self._client

    @property
    def pid(self) -> int | None:
        """The CLI's process id."""
        return self._transport.pid

    @property
    def alive(self) -> bool:
        """Whether it can take another turn."""
        return self._transport.is_ready()

    @property
    def initialized(self) -> bool:
        """Whether its system prompt, tools and schema are settled."""
        return self._client is not None

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have this called once the CLI has ended, however it did."""
        self._transport.when_ended(call)

    async def reported_models(self) -> list[dict[str, Any]]:
        """The models that this CLI offers its account: ``value`` (alias), ``resolvedModel``,
        ``displayName`` …
        """
        info = await self._connected.get_server_info()
        return list((info or {}).get("models", []))

    def can_switch(self, model: str | None, able: Capabilities) -> bool:
        """Whether it can go on with this model in what it holds."""
        if model == self.model or self.held == []:
            return True
        moves = able.seed and able.rewind_conversation
        return moves and self.held is not None and way_to(self.held, ()) is not None

    async def switch_model(self, model: str | None) -> None:
        """Go on with another model in what it holds. Raises ``ProcessDied`` or ``InvalidOption``.

        In mid-conversation the CLI leaves a remark about the switch, as if the user had typed
        ``/model``: so the history is taken out and put back.
        """
        if model == self.model:
            return
        check_model(model)
        messages = [one.message for one in self.held or ()]
        await self.hold(())
        await self._set_model(model)
        await self.hold(messages)

    async def _set_model(self, model: str | None) -> None:
        try:
            async with asyncio.timeout(_ANSWER_PATIENCE):
                await self._connected.set_model(model)
        except Exception as error:
            raise await self._died() from error
        self.model = model

    async def turn(self, content: Content) -> AsyncGenerator[SDKMessage, None]:
        """Send one prompt and yield what the CLI says, its result last.

        Raises ``ProcessDied``, and ``InvalidOption`` for content that is not JSON.
        """
        # An id of our own on each prompt: the CLI's checkpoints and results go by it.
        uuid = str(uuid4())
        held, self.held = self.held, None
        recorder = Recorder()
        self._in_turn = True
        result: ResultMessage | None = None
        watching = asyncio.get_running_loop().create_task(self._kill_if_it_hangs())
        try:
            await self._connected.query(_only(_prompt(content, uuid)))
            async with aclosing(self._messages(uuid)) as messages:
                async for message in messages:
                    watching.cancel()
                    recorder.feed(message)
                    if isinstance(message, ResultMessage):
                        result = message
                    else:
                        yield message
        except (TypeError, ValueError) as error:
            raise InvalidOption("content", f"The prompt cannot be sent: {error}.") from error
        except Exception as error:
            raise await self._died() from error
        finally:
            watching.cancel()
        if result is None:
            raise await self._died()
        self._in_turn = False
        added = recorder.held(result)
        if held is not None and added is not None:
            self.held = [*held, Held(Message("user", content), uuid), *added]
        yield result

    async def _kill_if_it_hangs(self) -> None:
        """Kill a CLI that neither begins with its turn nor answers a question in time: it was
        stopped, or hangs. A hook of the user's may well keep it from its turn for longer.
        """
        await asyncio.sleep(_ANSWER_PATIENCE)
        try:
            async with asyncio.timeout(_ANSWER_PATIENCE):
                await self._transport.control("mcp_status")
        except TimeoutError:
            self.kill()
        except Exception:
            return  # it has answered that it does not know, or has ended

    async def _messages(self, uuid: str) -> AsyncGenerator[SDKMessage, None]:
        """The messages of the turn that answers the prompt with this id, its result last.

        A command that was left in the background begins a turn of its own when it ends, between
        our turns or in front of one: that is for the model to know and not part of our answer.
        """
        ours = not self._has_background
        held: list[SDKMessage] = []
        messages: Any = self._connected.receive_messages()
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
                await self._connected.interrupt()
        except Exception:
            return False
        return True

    async def close(self) -> None:
        """End the process; safe to call twice. One in the middle of a turn is told to end at once:
        at the end of its input alone it would go on reading the model.
        """
        if self._in_turn:
            self._transport.terminate()
        # What comes now would only begin something in the client that nobody ends any more.
        self._transport.mute()
        if self._client is not None:
            with suppress(Exception):
                await self._client.disconnect()
        await self._transport.close()

    def kill(self) -> None:
        """End the process at once; ``close()`` must still be awaited."""
        self._transport.kill()


def _no_checkpoint(checkpoint: str, said: object) -> InvalidOption:
    return InvalidOption(
        "checkpoint", f"Claude Code cannot rewind the files to {checkpoint!r}: {said}"
    )


def _belongs(message: SDKMessage, uuid: str) -> bool:
    """Whether this message says that its turn answers the prompt with this id."""
    if isinstance(message, ResultMessage):
        named = message.user_message_uuids or [message.user_message_uuid or ""]
        # An interrupted turn may name none.
        return uuid in named or (named == [""] and message.origin is None)
    return uuid in (getattr(message, "user_message_uuids", None) or ())


async def _only(prompt: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield prompt


def _prompt(content: Content, uuid: str) -> dict[str, Any]:
    return {
        "type": "user",
        "uuid": uuid,
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
    }
