"""One Claude Code process, driven through the SDK's client."""

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    HookMatcher,
    ResultMessage,
)
from claude_agent_sdk import Message as SDKMessage

from .asking import Asking
from .bounds import Bounds
from .capabilities import Capabilities
from .dialogue import Dialogue
from .errors import CLIStartFailed, ControlRefused, InvalidOption, ProcessDied
from .events import Spent, Usage
from .guard import Guard
from .history import STRUCTURED, Content, Held, Message, Way, way_to
from .options import ASKS_US, check_model
from .parking import OpenCalls, Run, results_for
from .recording import Recorder
from .tools import SERVER, Tool, Toolbox
from .transport import CLITransport

# How long a CLI may take to answer what it answers in milliseconds; then it hangs and is killed.
_ANSWER_PATIENCE = 5.0
# The CLI asks for calls a few milliseconds after the model has written them.
_CALL_PATIENCE = 1.0
# A prompt with this is added to the history, and the model is not asked.
_UNANSWERED = {"shouldQuery": False}


class Process:
    """A running CLI that holds one conversation at a time.

    ``held`` is what it holds, None where that is in doubt; ``added`` the prompt of its last turn
    and what that has added, None likewise; ``broken_off`` whether it was; ``session_id`` its
    session's name, ``prompt`` its last prompt's, ``model`` what it answers with, ``total`` what it
    has counted up to now, ``told`` what earlier turns of ours have told of the CLI's turn that goes
    on; ``hears`` is told what it says.
    """

    def __init__(self, transport: CLITransport, session_id: str) -> None:
        self.session_id = session_id
        self.prompt = ""
        self.model: str | None = None
        self.held: list[Held] | None = []
        self.total: Spent | None = None
        self.added: list[Message] | None = None
        self.broken_off = False
        self.told = Usage()
        self.toolbox = Toolbox()
        self.asking = Asking()
        self.bounds = Bounds(transport.control, transport.kill, self.toolbox.gate)
        self.hears: Callable[[Mapping[str, Any]], None] | None = None
        self._transport = transport
        self._calls = OpenCalls(transport.write, self.toolbox)
        self._parked: Run | None = None
        self._client: ClaudeSDKClient | None = None
        self._talks: Dialogue | None = None
        self._in_turn = False

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
        asking = ASKS_US if options.can_use_tool else options.permission_prompt_tool_name
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
        hooks: Any = dict(options.hooks or {})
        waits = HookMatcher(matcher=STRUCTURED, hooks=[self._wait_at_gate])
        hooks["PreToolUse"] = [*hooks.get("PreToolUse", ()), waits]
        self._transport.bind(fields)
        self._transport.intercept(self._calls.take, self._notice)
        chosen = replace(options, mcp_servers=servers, hooks=hooks)
        if options.permission_prompt_tool_name == ASKS_US:
            asks = options.can_use_tool or self.asking.ask
            # The CLI itself has the rules; the SDK would only warn of them.
            chosen = replace(
                chosen, can_use_tool=asks, permission_prompt_tool_name=None, allowed_tools=[]
            )
        self._client = ClaudeSDKClient(chosen, self._transport)
        self._talks = Dialogue(self._client)
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

    def _notice(self, message: Mapping[str, Any]) -> None:
        self.bounds.notice(message)
        if self.hears is not None:
            self.hears(message)

    async def _wait_at_gate(self, *_: Any) -> Any:
        """The CLI may check a structured answer when it may ask the model for another one."""
        await self.toolbox.gate.wait()
        return {}

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
        if held is None or way is None or (self.waiting_for and way != Way(len(held), None, 0)):
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

    async def glance(self, subtype: str) -> dict[str, Any] | None:
        """Ask the CLI something that it may be too busy to answer soon: None then, and where it
        has ended. Raises ``ControlRefused``.
        """
        with suppress(TimeoutError, CLIConnectionError):
            async with asyncio.timeout(_ANSWER_PATIENCE):
                return dict(await self._transport.control(subtype))
        return None

    async def control(
        self, subtype: str, *, patience: float = _ANSWER_PATIENCE, **fields: Any
    ) -> dict[str, Any]:
        """Ask the CLI something beside its turn. Raises ``ControlRefused`` where it says no, and
        ``ProcessDied``.
        """
        try:
            async with asyncio.timeout(patience):
                return dict(await self._transport.control(subtype, **fields))
        except ControlRefused:
            raise
        except Exception as error:
            raise await self._died() from error

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
            await self._dialogue.send(message.content, uuid, **_UNANSWERED)
            async with aclosing(self._dialogue.messages(uuid)) as messages:
                async for _ in messages:
                    pass
        return Held(message, uuid)

    @property
    def _dialogue(self) -> Dialogue:
        assert self._talks is not None, "a process takes prompts when it is initialized"
        return self._talks

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

    async def context_tokens(self) -> int:
        """How many tokens the model would read of what it holds. Raises ``ProcessDied``."""
        try:
            async with asyncio.timeout(_ANSWER_PATIENCE):
                usage = await self._connected.get_context_usage()
        except Exception as error:
            raise await self._died() from error
        return usage["totalTokens"]

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
        try:
            async with asyncio.timeout(_ANSWER_PATIENCE):
                await self._connected.set_model(model)
        except Exception as error:
            raise await self._died() from error
        self.model = model
        await self.hold(messages)

    async def set_max_tokens(self, most: int | None) -> None:
        """Have the model write at most so many tokens at once from now on; None: the CLI's own
        bound. Raises ``ProcessDied``.
        """
        try:
            await self.bounds.set(most)
        except Exception as error:
            raise await self._died() from error

    def turn(
        self, content: Content, *, parks: bool = False, guarded: bool = False
    ) -> AsyncGenerator[SDKMessage, None]:
        """Send one prompt and yield what the CLI says, its result last.

        Where the model waits for the client's tools, all that was said until then is the turn.
        With ``parks`` it ends there without a result, and ``waiting_for`` says what ``resume``
        takes; else the CLI's turn is ended, and the process cannot go on. Where the model's bound
        of tokens cuts an answer off, that is the turn, too: ``guarded``, the CLI ends it; else
        there is no result, and the CLI is killed before it asks again.

        Raises ``ProcessDied``, and ``InvalidOption`` for content that is not JSON.
        """
        # An id of our own on each prompt: the CLI's checkpoints and results go by it.
        self.prompt = uuid = str(uuid4())
        recorder = Recorder(self.toolbox.client_calls())
        run = Run(uuid, self.held, Held(Message("user", content), uuid), recorder)
        self._calls.forget()
        self.told = Usage()

        async def send() -> None:
            await self._dialogue.send(content, uuid)

        return self._go_on(run, send, parks=parks, guarded=guarded)

    def resume(
        self, content: Content, *, parks: bool = False, guarded: bool = False
    ) -> AsyncGenerator[SDKMessage, None]:
        """Go on with the turn that waits for the client's tools, as ``turn`` does; ``content`` are
        the results of exactly those calls, as ``takes`` says.
        """
        run, results = self._parked, results_for(self.waiting_for, content)
        assert run is not None
        assert results is not None
        self._parked, run.recorder.waiting = None, []
        run.recorder.calls = self.toolbox.client_calls()
        return self._go_on(run, lambda: self._calls.answer(results), parks=parks, guarded=guarded)

    @property
    def waiting_for(self) -> Collection[str]:
        """The ids of the client's calls whose results it waits for; none where it does not."""
        return self._parked.recorder.waiting if self._parked is not None else ()

    def takes(self, content: Content) -> bool:
        """Whether it waits for exactly these results."""
        waits = bool(self.waiting_for) and self._calls.are_open(self.waiting_for)
        return waits and results_for(self.waiting_for, content) is not None

    @property
    def answering(self) -> str:
        """The full name of the model that waits for the client."""
        return self._parked.recorder.model if self._parked is not None else ""

    async def _go_on(
        self, run: Run, send: Callable[[], Awaitable[None]], *, parks: bool, guarded: bool
    ) -> AsyncGenerator[SDKMessage, None]:
        self.held, self.added, self.broken_off = None, None, False
        self._in_turn, recorder = True, run.recorder
        self.bounds.begin(guards=guarded)
        result, ending = None, False
        watching = asyncio.get_running_loop().create_task(self._kill_if_it_hangs())
        try:
            await self.bounds.settled()
            await send()
            async with aclosing(self._dialogue.messages(run.uuid, ours=run.told > 0)) as messages:
                async for message in messages:
                    watching.cancel()
                    recorder.feed(message)
                    self.broken_off |= recorder.cut_off
                    if isinstance(message, ResultMessage):
                        result = message
                    elif not ending:
                        yield message
                    if recorder.cut_off and self.bounds.killed:
                        self.added = run.tell(recorder.so_far())
                        return
                    if recorder.refused:
                        refused, recorder.refused = recorder.refused, []
                        await self.bounds.settled()
                        await self._calls.refuse(refused)
                    if recorder.waiting and not ending:
                        ending = True
                        if await self._parks(run, parks):
                            return
                        self.broken_off = True
        except (TypeError, ValueError) as error:
            raise InvalidOption("content", f"The prompt cannot be sent: {error}.") from error
        except Exception as error:
            raise await self._died() from error
        finally:
            watching.cancel()
        if result is None:
            raise await self._died()
        self._in_turn = False
        self.bounds.end()
        if recorder.cut_off:
            self.added = run.tell(recorder.so_far())
        elif not ending:
            added = recorder.held(result)
            self.held, self.added = run.held(added), run.tell(added)
        yield result

    async def _parks(self, run: Run, wanted: bool) -> bool:
        """The model waits for the client: leave the turn as it is, if that is ``wanted`` and can
        be; else have it ended.
        """
        recorder = run.recorder
        added = recorder.so_far()
        self.added = run.tell(added)
        whole = wanted and added is not None and not recorder.left_out
        await self.bounds.settled()
        if whole and await self._calls.asked(recorder.waiting, _CALL_PATIENCE):
            self._parked, self.held = run, run.held(added)
            return True
        if not await self.interrupt():
            self.kill()
        return False

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
        if self._parked is not None:
            # Else it would take the end of our side for the end of the calls, and ask the model.
            self._parked = None
            self._in_turn = not await self.interrupt()
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
