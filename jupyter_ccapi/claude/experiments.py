"""The capability probe's experiments: what a CLI is asked to do, and how it is seen that it did.

Everything goes through the code that serves in earnest, and is judged by what the model was sent,
or by what lies on the disk; a CLI's own word is not enough.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ResultMessage

from .capabilities import Capabilities
from .cli import CLI
from .cli_checkpoints import FilePreview, preview_files, rewind_files
from .errors import CLIStartFailed
from .guard import Guard
from .history import Message, Session
from .launcher import Launcher
from .options import Options
from .probe import LoopbackModel, SentRequest
from .process import Process

logger = logging.getLogger(__name__)

# What a CLI needs of this process's environment to run at all. Everything else stays behind: it
# may name an account, a provider, a gateway or a proxy, under names that nobody here knows.
_HARMLESS = {
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LANGUAGE", "TZ"),
    *("TMPDIR", "TEMP", "TMP", "SHELL"),
}
# The settings of the machine's administrator hold for every CLI and may name another provider,
# over the environment. This variable is for programs that provide the model themselves
# (https://code.claude.com/docs/en/env-vars).
_OUR_MODEL = {"CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1"}
# So many times the patience of one experiment, and all of them must be over.
_ALL = 9

# So few tokens no CLI asks for by itself.
_FEW = 7
_PROMPT = "Answer like the probe of jupyter_ccapi."
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"probed": {"type": "string"}},
    "required": ["probed"],
    "additionalProperties": False,
}
_USE = {"type": "tool_use", "id": "toolu_probe", "name": "clock", "input": {"zone": "utc"}}
_RESULT = {"type": "tool_result", "tool_use_id": "toolu_probe", "content": "noon"}
_HISTORY = (
    Message("user", "I am Ann."),
    Message("assistant", "Hello Ann."),
    Message("user", "What time is it?"),
    Message("assistant", [{"type": "text", "text": "I look."}, _USE]),
    Message("user", [_RESULT]),
    Message("assistant", "Noon."),
)


async def find_out(cli: CLI, model: LoopbackModel, *, home: Path, patience: float) -> Capabilities:
    """Find out what this CLI can do, with ``home`` as its home and nothing of the user's account.

    ``patience`` is how many seconds each experiment may take; one that fails in any way says that
    the CLI cannot do that. Raises ``CLIStartFailed`` where nothing can be found out.
    """
    guard = Guard()
    environment = {**model.environment(home), **_OUR_MODEL}
    launcher = Launcher(guard, environment, patience, _harmless(os.environ))
    laboratory = _Laboratory(launcher, cli, model, home / "project", patience)
    try:
        async with asyncio.timeout(_ALL * patience):
            return await laboratory.find_out()
    except TimeoutError as error:
        raise CLIStartFailed(
            f"What {cli.path} can do was not found out within {_ALL * patience:g} seconds."
        ) from error
    finally:
        await laboratory.drop()
        # What it watches has ended by now.
        guard.close()


def _harmless(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that tells nothing of an account."""
    return {
        name: value
        for name, value in environment.items()
        if name in _HARMLESS or name.startswith("LC_")
    }


class _Laboratory:
    """One process at a time, which each experiment takes over from the one before it, as long as
    all goes well.
    """

    def __init__(
        self, launcher: Launcher, cli: CLI, model: LoopbackModel, folder: Path, patience: float
    ) -> None:
        self._launcher = launcher
        self._cli = cli
        self._model = model
        self._patience = patience
        self._process: Process | None = None
        self._checkpoint: str | None = None
        self._answered_elsewhere = False
        self._written = folder / "written.txt"
        self._chat = Options(cwd=folder, system_prompt=_PROMPT)
        self._agent = Options(
            mode="agent",
            cwd=folder,
            system_prompt=_PROMPT,
            schema=_SCHEMA,
            sdk={"enable_file_checkpointing": True, "allowed_tools": ["Write"]},
        )
        folder.mkdir()

    async def find_out(self) -> Capabilities:
        """All experiments, in chat and as an agent."""
        prompt = await self._succeeds(self._starts_bound)
        if self._process is None:
            await self._start(self._chat)  # where that fails too, nothing can be found out
        seed = await self._succeeds(self._seeds)
        prompt = prompt and await self._succeeds(self._has_prompt)
        rewind = await self._succeeds(lambda: self._rewinds(primed=seed))
        bounds = await self._succeeds(self._sets_bounds)
        if not self._model.main_requests:
            raise CLIStartFailed(f"{self._cli.path} did not ask the model that it was led to.")
        await self.drop()
        appended = schema = await self._succeeds(lambda: self._binds(self._agent))
        if not appended:
            # One of the two, or both.
            appended = await self._succeeds(lambda: self._binds(replace(self._agent, schema=None)))
            schema = await self._succeeds(
                lambda: self._binds(replace(self._agent, system_prompt=None))
            )
        preview = await self._succeeds(self._previews)
        return Capabilities(
            bind_at_initialize=prompt and appended,
            schema_at_initialize=schema,
            seed=seed,
            rewind_conversation=rewind,
            set_bounds=bounds,
            preview_rewind=preview,
        )

    async def drop(self) -> None:
        """End the process, if there is one: the next experiment gets a new one."""
        process, self._process, self._checkpoint = self._process, None, None
        if process is not None:
            process.kill()
            await process.close()

    async def _succeeds(self, experiment: Callable[[], Awaitable[bool]]) -> bool:
        """Whether an experiment comes out well; else its process serves no other."""
        try:
            async with asyncio.timeout(self._patience):
                succeeded = await experiment()
        except Exception as error:
            if self._answered_elsewhere:
                raise
            logger.debug("%s failed an experiment: %r", self._cli.path, error)
            succeeded = False
        if not succeeded:
            await self.drop()
        return succeeded

    async def _starts_bound(self) -> bool:
        await self._start_ahead(self._chat)
        return True

    async def _seeds(self) -> bool:
        process = self._process or await self._start(self._chat)
        await process.hold(_HISTORY)
        return await self._ask_after(_HISTORY, "Who am I?")

    async def _has_prompt(self) -> bool:
        if self._process is None:
            await self._start_ahead(self._chat)
        return _PROMPT in (await self._ask("How do you answer?")).system_text

    async def _rewinds(self, *, primed: bool) -> bool:
        """Cut back to nothing, and to the first of two turns; ``primed``: also what was added."""
        process = self._process or await self._start(self._chat)
        await self._ask("First.")
        await self._ask("Second.")
        await process.hold([])
        emptied = await self._ask_after([], "Third.")
        kept = [held.message for held in process.held or ()]
        await self._ask("Fourth.")
        await process.hold(kept)
        shortened = bool(kept) and await self._ask_after(kept, "Fifth.")
        if not primed:
            return emptied and shortened
        await process.hold([])
        await process.prime()
        return emptied and shortened and await self._ask_after([], "Sixth.")

    async def _sets_bounds(self) -> bool:
        """Whether it takes another bound of tokens and lets go of it, and asks nothing where it is
        told so.
        """
        process = self._process or await self._start(self._chat)
        usual = (await self._ask("How much?")).body["max_tokens"]
        await process.set_max_tokens(_FEW)
        bounded = (await self._ask("How little?")).body["max_tokens"]
        await process.set_max_tokens(None)
        free = (await self._ask("How much again?")).body["max_tokens"]
        if (bounded, free) != (_FEW, usual):
            return False
        asked = len(self._model.main_requests)
        await process.bounds.close()
        async for message in process.turn("Nothing?"):
            if isinstance(message, ResultMessage) and not message.is_error:
                return False
        return len(self._model.main_requests) == asked and bool(await self._ask("And now?"))

    async def _binds(self, options: Options) -> bool:
        """Whether a spare takes system prompt and schema; its first turn writes a file."""
        await self.drop()
        await self._start_ahead(options)
        sent = await self._write()
        prompted = (options.system_prompt or "") in sent.system_text
        return prompted and (options.schema is None or _offers(sent, options.schema))

    async def _previews(self) -> bool:
        """Whether a preview says what the rewind then does, and does nothing by itself."""
        process = self._process or await self._start(replace(self._agent, schema=None))
        if self._checkpoint is None:
            await self._write()
        assert self._checkpoint is not None
        before = self._written.read_text()
        able = Capabilities(preview_rewind=True)
        preview = await preview_files(process, self._checkpoint, self._written.parent, able=able)
        unchanged = self._written.read_text() == before
        await rewind_files(process, self._checkpoint)
        expected = FilePreview((self._written,), insertions=0, deletions=2)
        return unchanged and preview == expected and not self._written.exists()

    async def _start_ahead(self, options: Options) -> Process:
        """A spare, bound at ``initialize``."""
        able = Capabilities(bind_at_initialize=True, schema_at_initialize=True)
        self._process = await self._launcher.start_ahead(
            self._cli, options, persist=options.mode == "agent", able=able
        )
        return self._process

    async def _start(self, options: Options) -> Process:
        """A process by public means alone."""
        session = Session(str(uuid4()), persist=options.mode == "agent")
        self._process = await self._launcher.start(self._cli, options, session)
        return self._process

    async def _write(self) -> SentRequest:
        self._written.unlink(missing_ok=True)
        return await self._ask(f"[[write {self._written} one\ntwo]]")

    async def _ask(self, prompt: str) -> SentRequest:
        """Have the model asked, and return the first request that it was sent for that."""
        assert self._process is not None
        before = len(self._model.main_requests)
        answered = False
        async for message in self._process.turn(prompt):
            if isinstance(message, ResultMessage):
                self._checkpoint = message.user_message_uuid
                answered = not message.is_error
        if answered and len(self._model.main_requests) == before:
            # Whatever that is, it is asked nothing more.
            self._answered_elsewhere = True
            raise CLIStartFailed(
                f"{self._cli.path} does not ask the model that it is led to; some setting of this "
                "machine leads it elsewhere."
            )
        return self._model.main_requests[before]

    async def _ask_after(self, history: Sequence[Message], prompt: str) -> bool:
        """Whether the model is sent exactly this."""
        expected = [*history, Message("user", prompt)]
        sent = _messages(await self._ask(prompt))
        return [message.digest for message in sent] == [message.digest for message in expected]


def _messages(sent: SentRequest) -> list[Message]:
    """What the model was sent, without what the CLI says beside it."""
    return [
        Message(entry["role"], entry["content"])
        for entry in sent.messages
        if entry["role"] != "system"
    ]


def _offers(sent: SentRequest, schema: Mapping[str, Any]) -> bool:
    """Whether the tool for structured output was offered with this schema."""
    return any(
        tool.get("name") == "StructuredOutput" and tool.get("input_schema") == schema
        for tool in sent.body.get("tools") or ()
    )
