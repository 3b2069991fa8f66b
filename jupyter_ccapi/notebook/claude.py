"""`Claude`: the conversations of a notebook, from Python."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from jupyter_ccapi.claude import Answer as PermissionAnswer
from jupyter_ccapi.claude import ClaudeError, Event, TurnEnd, Usage
from jupyter_ccapi.claude.batching import batch
from jupyter_ccapi.claude.errors import InvalidOption, TurnFailed
from jupyter_ccapi.claude.history import Content, Message
from jupyter_ccapi.claude.record import Checkpoint
from jupyter_ccapi.claude.rewinding import Wish

from .answer import Answer
from .approvals import Approvals, How
from .blocking import run_sync
from .chosen import PASSING, check, read_chosen, read_wanted
from .desk import DEFAULT, Desk, current_desk
from .dialog import Dialog
from .errors import CellError, NoSuchConversation, QueryStopped
from .following import Following
from .home_loop import called_back
from .live import failure_of
from .picture_limits import NoPicture
from .pictures import picture_block
from .progress import Progress
from .rewound import Rewound
from .schemas import Schema
from .settings import ForThisCell, Settings, to_options
from .stop_button import Pressed, sigint_cancels
from .views import NotebookView

if TYPE_CHECKING:
    from ipywidgets import Widget  # type: ignore[import-untyped, unused-ignore]

    from .sharing import Shared


class Claude:
    """A conversation with Claude Code, in a notebook or any Python program.

        claude = Claude(model="sonnet", permission_mode="acceptEdits")
        answer = await claude.query("What is in this folder?")

    `conversation` is a name that `%%claude -c NAME` knows, too (`default`: that of the cells that
    name none); without it the conversation is this object's own. The options are those of
    claude-agent-sdk's `ClaudeAgentOptions` by the same names (`allowed_tools`, `agents`,
    `mcp_servers`, `hooks`, `can_use_tool`, `sandbox`, `setting_sources` …), and `mode` (`agent`, or
    `chat` without tools), `effort`, `budget_usd` (for each prompt) and `schema`.

    All errors are `ClaudeError`, with a sentence that says what to do.
    """

    def __init__(self, conversation: str | None = None, **options: Any) -> None:
        self.name = conversation or uuid4().hex[:8]
        self._chosen = read_chosen(options, self._desk.home, self.name)
        # What is wrong is said now, not with the first prompt.
        check(self._settings(), self._chosen.cell)
        dialog = self._desk.dialogs.get(self.name)
        self._id = dialog.id if dialog is not None else ""
        if dialog is not None:
            dialog.change(**self._chosen.lasting)

    @classmethod
    def resume(cls, id: str = "", *, conversation: str = DEFAULT) -> "Claude":
        """Take up a kept conversation by its id (or the id's beginning); without one, the last of
        this notebook. From then on cells know it as `conversation`.
        """
        desk = current_desk()
        desk.resume(conversation, id, Settings(cwd=str(Path.cwd())))
        return cls(conversation)

    async def query(self, prompt: Content, **asked: Any) -> Answer:
        """Send a prompt and return the answer. Where Claude asks for permission, so is the person
        at the notebook.

        `images` are pictures to send along: paths, URLs, figures, arrays. `schema` is what the
        answer must be: a JSON Schema or a pydantic model; `Answer.value` is that then. `effort`,
        `budget_usd` and `max_turns` are for this prompt alone.
        """
        cell, content, schema = self._asked(prompt, asked)
        dialog, desk = self._dialog, self._desk
        how, drawing = cast(How, desk.options.approvals), desk.drawing
        if called_back() and drawing.locked():
            # Code that runs for a turn: what it shows is for the model, and it waits for us.
            how, drawing = "deny", asyncio.Lock()
        with self._stoppable() as pressed:
            turn = dialog.send(content, cell)
            following = Following(dialog, turn, Approvals(desk.shell, how), drawing)
            view = NotebookView(10.0, approvals=following.ask, quiet=True)
            try:
                end = await following.follow(view)
            except asyncio.CancelledError:
                if pressed is not None and pressed.yes:
                    raise QueryStopped from None
                raise
        if turn.stopped_here:
            raise QueryStopped
        return _answer(end, schema)

    async def stream(self, prompt: Content, **asked: Any) -> AsyncIterator[Event]:
        """Send a prompt and yield the events of its turn as they come; the last is a `TurnEnd`.

        A `PermissionRequest` among them is to be answered with `answer`. Leaving the loop early
        interrupts the turn. Options as with `query`.
        """
        cell, content, _ = self._asked(prompt, asked)
        dialog = self._dialog
        turn = dialog.send(content, cell)
        try:
            while True:
                with self._stoppable():
                    arrived = await turn.arrivals()
                for event in arrived:
                    dialog.note(event)
                    yield event
                if turn.over:
                    break
        finally:
            if not turn.over:
                await turn.interrupt()
                for event in await turn.arrivals():
                    dialog.note(event)
        if (failure := failure_of(turn)) is not None:
            raise failure

    def ask(self, prompt: Content, **asked: Any) -> Answer:
        """As `query`, but blocking: for code that cannot `await`, also while a loop runs."""
        return run_sync(self.query(prompt, **asked))

    async def batch(
        self, prompts: Sequence[Content], *, max_concurrency: int = 4, progress: bool = True
    ) -> list[Answer | ClaudeError]:
        """Ask many prompts, so many at once, each on its own and apart from this conversation, with
        its options. The results come in the prompts' order; one that failed is its error. Nobody is
        asked for permission.
        """
        dialog = self._dialog
        cell, _, schema = self._asked("", {})
        self._desk.refresh()
        self._desk.home.enter()
        options = to_options(dialog.settings, cell, dialog.tools)
        shown = Progress(len(prompts)) if progress else None
        loop = asyncio.get_running_loop()

        def done(place: int, result: TurnEnd | ClaudeError) -> None:
            if shown is not None:
                loop.call_soon_threadsafe(shown.count, result)

        running = self._desk.core.submit(
            batch(
                self._desk.pool,
                prompts,
                options,
                max_concurrency=max_concurrency,
                on_done=done,
            )
        )
        with shown or nullcontext(), self._stoppable():
            results = await asyncio.wrap_future(running)
        return [_answer_or_error(one, schema) for one in results]

    async def interrupt(self) -> None:
        """End the turn that is running, not the conversation."""
        if self._dialog.live is not None:
            await self._dialog.live.interrupt()

    def answer(self, request_id: str, answer: PermissionAnswer) -> None:
        """Answer a `PermissionRequest` of the turn that is running."""
        if self._dialog.live is None:
            raise InvalidOption("request_id", "No turn is running that would ask.")
        self._dialog.live.answer(request_id, answer)

    @property
    def id(self) -> str:
        """What the conversation is kept under: `Claude.resume(id)`."""
        return self._dialog.id

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints: one for each prompt, numbered from 1."""
        return self._dialog.checkpoints()

    @property
    def messages(self) -> list[Message]:
        """All that was said."""
        return self._dialog.messages()

    @property
    def can_undo(self) -> bool:
        """Whether a rewind can be taken back."""
        return self._dialog.can_undo

    @property
    def turns(self) -> int:
        """How many prompts were answered in this kernel."""
        return self._dialog.turns

    @property
    def usage_total(self) -> Usage:
        """The tokens of those."""
        return self._dialog.usage

    @property
    def cost_usd(self) -> float:
        """What those have cost, in USD."""
        return self._dialog.cost_usd

    def rewind(
        self,
        checkpoint: int,
        *,
        files: bool = True,
        conversation: bool = True,
        dry_run: bool = False,
        force: bool = False,
    ) -> Rewound:
        """Have files and conversation as they were just before a prompt: both, or neither.

        What only another hand has changed since stays; with what both have changed, nothing is
        done unless `force`. With `dry_run` it is only said what would be done.
        """
        wish = Wish(files, conversation, force, self._open_files)
        if dry_run:
            plan = self._dialog.rewinding(lambda one: one.preview(checkpoint, wish))
        else:
            plan = self._dialog.rewinding(lambda one: one.rewind(checkpoint, wish))
        return Rewound(plan, done=not dry_run)

    def undo(self, *, dry_run: bool = False, force: bool = False) -> Rewound:
        """Take the last rewind back; it can be until the next prompt."""
        wish = Wish(force=force, protected=self._open_files)
        if dry_run:
            plan = self._dialog.rewinding(lambda one: one.preview_undo(wish))
        else:
            plan = self._dialog.rewinding(lambda one: one.undo(wish))
        return Rewound(plan, done=not dry_run, undo=True)

    def fork(self, checkpoint: int | None = None) -> "Claude":
        """A copy of the conversation, as it was just before a prompt (None: as it is now); files
        stay as they are.
        """
        dialog = self._dialog
        copy = self._desk.copy(dialog, uuid4().hex[:8], checkpoint)
        return Claude(copy.name)

    def share(self) -> "Shared":
        """Publish the conversation on the notebook's server: whoever may use that can watch it,
        send prompts, answer permission requests and rewind it, over WebSocket. What comes back says
        where, and ends it with `stop()`.
        """
        return self._dialog.share()

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have this called after each turn and rewind; returns what ends that."""
        return self._dialog.on_change(call)

    def chat(self) -> "Widget":
        """The conversation as a chat, in the output of a cell."""
        from .chat_widget import ChatWidget

        return ChatWidget(self)

    def timeline(self) -> "Widget":
        """Its checkpoints, to look at and to rewind to."""
        from .timeline_widget import TimelineWidget

        return TimelineWidget(self)

    def usage(self) -> "Widget":
        """What it has used and cost."""
        from .usage_widget import UsageWidget

        return UsageWidget(self)

    def __repr__(self) -> str:
        """Its name, id and settings."""
        dialog = self._dialog
        model = dialog.settings.model or "the default model"
        return f"<Claude {self.name!r}: {dialog.settings.mode}, {model}, {self.turns} turns>"

    @property
    def _desk(self) -> Desk:
        """The current one: the extension may have been loaded, or loaded anew."""
        return current_desk()

    @property
    def _dialog(self) -> Dialog:
        """The conversation that the name means now: a cell may have begun it anew, or have taken it
        up by another name.
        """
        dialogs = self._desk.dialogs
        same = (one for one in dialogs.values() if one.id == self._id)
        found = dialogs.get(self.name) or next(same, None) or self._taken_up()
        if found is None:
            found = self._desk.begin(self.name, self._settings())
        self.name, self._id = found.name, found.id
        return found

    def _taken_up(self) -> Dialog | None:
        """The conversation that was had here, and that is open no more."""
        if not self._id:
            return None
        try:
            found = self._desk.resume(self.name, self._id, self._settings())
        except NoSuchConversation:
            return None  # nothing was sent in it
        found.change(**self._chosen.lasting)
        return found

    def _stoppable(self) -> AbstractContextManager[Pressed | None]:
        """What the stop button is to end. In a plain program SIGINT is the program's."""
        return sigint_cancels() if self._desk.shell is not None else nullcontext()

    @property
    def _open_files(self) -> list[Path]:
        return [self._desk.notebook] if self._desk.notebook is not None else []

    def _settings(self) -> Settings:
        lasting: dict[str, Any] = {"cwd": str(Path.cwd()), **self._chosen.lasting}
        if lasting.get("model") is None:
            lasting["model"] = self._desk.options.model or None
        return Settings(**lasting)

    def _asked(
        self, prompt: Content, asked: Mapping[str, Any]
    ) -> tuple[ForThisCell, Content, Schema | None]:
        """What a prompt is sent with. Raises `InvalidOption`."""
        known = {*PASSING, "images", "schema"}
        for name in asked:
            if name not in known:
                raise InvalidOption(
                    name,
                    f"A prompt has no option {name!r}; it has {', '.join(sorted(known))}. Others "
                    "are given to Claude(…).",
                )
        schema = read_wanted(asked.get("schema", self._chosen.schema))
        settings = self._dialog.settings
        default = self._desk.options.budget_usd if settings.mode == "agent" else 0.0
        cell = self._chosen.passing(asked, schema, default)
        check(settings, cell)
        images = [self._picture(image) for image in asked.get("images", ())]
        if not images:
            return cell, prompt, schema
        text = [{"type": "text", "text": prompt}] if isinstance(prompt, str) else list(prompt)
        return cell, [*images, *text], schema

    def _picture(self, image: Any) -> dict[str, Any]:
        try:
            return picture_block(image, self._desk.shell)
        except NoPicture as why:
            raise InvalidOption("images", f"images: {why}") from None


def _answer(end: TurnEnd, schema: Schema | None) -> Answer:
    """The answer of a program's prompt. Raises `ClaudeError` where it is not what was wanted."""
    try:
        return Answer.of(end, schema.make if schema else None)
    except CellError as error:
        raise TurnFailed(str(error)) from None


def _answer_or_error(result: TurnEnd | ClaudeError, schema: Schema | None) -> Answer | ClaudeError:
    if isinstance(result, ClaudeError):
        return result
    try:
        return _answer(result, schema)
    except ClaudeError as error:
        return error
