"""Start Claude Code processes: for one conversation, or ahead of any."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions

from .capabilities import Capabilities
from .cli import CLI
from .guard import Guard
from .history import Held, Session
from .options import Options, to_sdk
from .process import Process
from .slots import bindable
from .transcripts import transcript_path, write_transcript

# On resume the CLI would go on with the system prompt of before; the SDK has this field for
# system prompts of its preset.
_PROMPT_AS_GIVEN = {"systemPromptSnapshot": False}
# The alias of the CLI's own default model.
_DEFAULT_MODEL = "default"
# A prompt is in the transcript before the model is asked; else the CLI writes it up to 100 ms
# later, and one that is killed meanwhile has never had it.
_WRITES_AT_ONCE = {"CLAUDE_CODE_EAGER_FLUSH": "1"}


@dataclass(frozen=True, slots=True)
class Launcher:
    """What all processes of a pool have in common: ``environment`` is added to what each inherits
    (``inherited``, else the environment of this process), ``patience`` is how many seconds one may
    take to come up.
    """

    guard: Guard
    environment: Mapping[str, str]
    patience: float
    inherited: Mapping[str, str] | None = None

    async def start(self, cli: CLI, options: Options, session: Session) -> Process:
        """Start a process that holds this session, all by public means: flags, and a transcript
        to resume.

        Raises ``CLIStartFailed``, and ``InvalidOption`` for what the SDK does not take. Cancelled,
        it returns when what it has started has ended.
        """
        chosen = self._chosen(cli, options, persist=session.persist)
        path = transcript_path(session.id, cwd=options.cwd, environment=chosen.env)
        exists = path.exists()
        seeded = bool(session.history) and not exists
        if seeded or exists or session.known:
            chosen.resume = session.id
        else:
            chosen.session_id = session.id
        held: list[Held] | None = []
        started = False
        try:
            if seeded:
                held = write_transcript(path, session.history or (), cwd=options.cwd)
            elif chosen.resume:
                held = _known(session)
                # Else it would answer with the model that answered last.
                chosen.model = chosen.model or _DEFAULT_MODEL
            process = await self._bring_up(chosen, session.id, options)
            started = True
        finally:
            # The CLI has read it by now.
            if seeded and not (started and session.persist):
                path.unlink(missing_ok=True)
        process.held, process.model = held, options.model
        process.bounds.max_tokens = options.max_tokens
        return process

    async def fork_at(
        self, cli: CLI, options: Options, session_id: str, message_uuid: str
    ) -> Process:
        """Start a process with a session of its own, that goes on after this message of a session
        that was persisted: all by public flags. The session itself is not changed.

        ``message_uuid`` is the last ``AssistantMessage.uuid`` of the turn that is kept last; after
        a prompt's own uuid that prompt would be joined to the next one. Checkpoints of files keep
        their uuids, those of the turns that are left out too. What it holds is not known here.
        Raises as ``start`` does, also where there is no such session or message.
        """
        chosen = self._chosen(cli, options, persist=True)
        chosen.resume, chosen.resume_session_at = session_id, message_uuid
        chosen.fork_session, chosen.session_id = True, str(uuid4())
        process = await self._bring_up(chosen, chosen.session_id, options)
        process.held = None
        return process

    async def start_spare(self, cli: CLI, options: Options, *, persist: bool) -> Process:
        """Start a process that is bound to nothing yet, for conversations with the profile of
        these options. Raises as ``start`` does.
        """
        chosen = self._chosen(cli, _unbound(options), persist=persist)
        chosen.session_id = str(uuid4())
        return await Process.launch(chosen, chosen.session_id, self.guard, self.inherited)

    async def start_ahead(
        self, cli: CLI, options: Options, *, persist: bool, able: Capabilities
    ) -> Process:
        """Start a process that is bound to these options and holds nothing yet. Raises as
        ``start`` does.
        """
        if bindable(options, able):
            process = await self.start_spare(cli, options, persist=persist)
            await self.bind(process, cli, options, persist=persist)
        else:
            process = await self.start(cli, options, Session(str(uuid4()), persist=persist))
        if able.seed and able.rewind_conversation:
            try:
                await process.prime()
            except BaseException:
                await process.close()
                raise
        return process

    async def bind(self, process: Process, cli: CLI, options: Options, *, persist: bool) -> None:
        """Initialize a spare with these options. Raises as ``start`` does."""
        fields: dict[str, Any] = {}
        if options.system_prompt:
            chat = options.mode == "chat"
            fields["systemPrompt" if chat else "appendSystemPrompt"] = options.system_prompt
        if options.schema is not None:
            fields["jsonSchema"] = dict(options.schema)
        chosen = self._chosen(cli, _unbound(options), persist=persist)
        await process.initialize(chosen, tools=options.tools, fields=fields, patience=self.patience)

    async def _bring_up(
        self, chosen: ClaudeAgentOptions, session_id: str, options: Options
    ) -> Process:
        with TemporaryDirectory(prefix="ccapi-") as folder:
            chosen = _prompt_in_file(chosen, Path(folder) / "system-prompt")
            process = await Process.launch(chosen, session_id, self.guard, self.inherited)
            await process.initialize(
                chosen,
                tools=options.tools,
                fields=_PROMPT_AS_GIVEN if chosen.resume else {},
                patience=self.patience,
            )
        return process

    def _chosen(self, cli: CLI, options: Options, *, persist: bool) -> ClaudeAgentOptions:
        chosen = to_sdk(options, cli_path=cli.path)
        chosen.env = {**_WRITES_AT_ONCE, **self.environment, **chosen.env}
        if options.max_tokens is not None:
            chosen.env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(options.max_tokens)
        if not persist:
            chosen.extra_args = {**chosen.extra_args, "no-session-persistence": None}
        return chosen


def _unbound(options: Options) -> Options:
    """These options without what binds at ``initialize``, or is switched live."""
    tools = options.tools if options.mode == "agent" else ()
    return replace(
        options, model=None, max_tokens=None, system_prompt=None, schema=None, tools=tools
    )


def _known(session: Session) -> list[Held] | None:
    """What a resumed process holds; the CLI's names for it are not known."""
    if session.history is None:
        return None
    return [Held(message) for message in session.history]


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
