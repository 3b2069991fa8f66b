"""The tools by which Claude sees the live kernel, and runs code in it.

Their handlers are for the kernel's own loop, in the main thread.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_ccapi.claude import Tool

from .capturing import Picture, cut_middle
from .describing import describe
from .interrupting import Interrupted
from .notebook_file import read_notebook
from .picture_limits import NoPicture, fitted
from .proposals import Proposals
from .running import CodeFailed, Outcome, run
from .variables import changed, find, listing, visible

Answer = str | list[dict[str, Any]]

# Whether the code that asks was begun by run_python, which then waits for it.
_running: ContextVar[bool] = ContextVar("running", default=False)

_MOST_TEXT = 30_000
_MOST_PICTURES = 8
_DETAILED = 20_000

_LIST = (
    "List the variables of the user's live notebook kernel: name, type, size or value. Modules and "
    "names with a leading underscore are left out."
)
_INSPECT = (
    "Describe a variable of the user's live notebook kernel: of a table its columns, types, nulls "
    "and first rows, of an array its shape and range, of a function its source, and so on. Takes "
    "names and dotted names (df.columns); nothing is evaluated."
)
_RUN = (
    "Run Python in the user's live notebook kernel, as a cell of it: in the user's namespace, with "
    "top-level await, %magics and !commands. Returns what it prints, displays and draws, and the "
    "value of its last expression. The user sees it only as this tool's result. What a child "
    "process prints comes back from !command only. In and Out stay as they are."
)
_ADD = (
    "Propose a cell below the running one. It is put into the notebook when the turn has ended "
    "well, and the user decides whether it runs. Several of a turn come as one cell with "
    '"# %%" between them. Use it for code that the user is to keep.'
)
_READ = (
    "Read the user's notebook: sources and trimmed outputs of its cells as they were saved last, "
    "and the cells that ran in the kernel since."
)


def kernel_tools(
    shell: InteractiveShell,
    gate: asyncio.Lock,
    set_by: Callable[[list[str]], None],
    stopped: Callable[[], None],
    shown: Callable[[], Awaitable[None]] | None = None,
) -> tuple[Tool, ...]:
    """The tools for a shell.

    ``gate`` is held while code runs: what is printed meanwhile goes to the model. ``set_by`` is
    told the variables that code has set; ``stopped`` is called when the user has stopped it by
    SIGINT, before the model is told. ``shown`` is awaited before code runs: what led to it is then
    on the screen.
    """
    kernel = _Kernel(shell, gate, set_by, stopped, shown)
    text, flag = {"type": "string"}, {"type": "boolean"}
    pattern = {**text, "description": "only names that match, such as df_*"}
    name = {**text, "description": "such as df, model.coef_"}
    detail = {**flag, "description": "up to 20,000 characters instead of 4,000"}
    kind = {**text, "enum": ["code", "markdown"]}
    return (
        Tool("list_variables", _LIST, _schema(pattern=pattern), kernel.list_variables),
        Tool(
            "inspect_variable",
            _INSPECT,
            _schema("name", name=name, detail=detail),
            kernel.inspect_variable,
        ),
        Tool(
            "run_python",
            _RUN,
            _schema("code", code=text),
            kernel.run_python,
            parallel=False,
            asks=True,
        ),
        Tool("add_cell", _ADD, _schema("source", source=text, kind=kind), kernel.add_cell),
        Tool("read_notebook", _READ, _schema(), kernel.read_notebook),
    )


def _schema(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


class _Kernel:
    """The tools' handlers. An error's message is what the model is told."""

    def __init__(
        self,
        shell: InteractiveShell,
        gate: asyncio.Lock,
        set_by: Callable[[list[str]], None],
        stopped: Callable[[], None],
        shown: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._shell = shell
        self._gate = gate
        self._set_by = set_by
        self._stopped = stopped
        self._shown = shown
        self._proposals = Proposals(shell)

    async def list_variables(self, given: dict[str, Any]) -> Answer:
        return listing(self._shell, _text(given, "pattern") or "*")

    async def inspect_variable(self, given: dict[str, Any]) -> Answer:
        name = _text(given, "name")
        most = {"most": _DETAILED} if given.get("detail") else {}
        return describe(name, find(self._shell, name), **most)

    async def run_python(self, given: dict[str, Any]) -> Answer:
        code = _text(given, "code")
        if _running.get():
            raise CodeFailed("run_python cannot run within code that it runs already.")
        _running.set(True)
        if self._shown is not None:
            await self._shown()
        async with self._gate:
            before = visible(self._shell)
            try:
                outcome = await run(self._shell, code)
            finally:
                if names := changed(self._shell, before, code):
                    self._set_by(names)
        if outcome.interrupted:
            self._stopped()
            raise Interrupted(_joined("The user has stopped this code.", outcome.text))
        if outcome.error:
            raise CodeFailed(_joined(outcome.text, outcome.error))
        return _answer(outcome)

    async def add_cell(self, given: dict[str, Any]) -> Answer:
        return self._proposals.add(_text(given, "source"), _text(given, "kind") or "code")

    async def read_notebook(self, given: dict[str, Any]) -> Answer:
        return read_notebook(self._shell)


def _text(given: dict[str, Any], field: str) -> str:
    value = given.get(field, "")
    if not isinstance(value, str):
        raise TypeError(f"{field} must be text.")
    return value


def _joined(*parts: str) -> str:
    return cut_middle("\n".join(part for part in parts if part), _MOST_TEXT)


def _answer(outcome: Outcome) -> Answer:
    """What the model is given: the text, then the pictures as MCP content blocks."""
    text = cut_middle(outcome.text, _MOST_TEXT) or "(It ran, and put nothing out.)"
    if not outcome.pictures:
        return text
    blocks, left_out = [], []
    for number, picture in enumerate(outcome.pictures, 1):
        try:
            if number > _MOST_PICTURES:
                raise NoPicture(f"only {_MOST_PICTURES} are given at once")
            blocks.append(_block(picture))
        except NoPicture as why:
            left_out.append(f"[picture {number} is left out: {why}]")
    return [{"type": "text", "text": "\n".join((text, *left_out))}, *blocks]


def _block(picture: Picture) -> dict[str, Any]:
    _, data = picture
    media_type, encoded = fitted(base64.b64decode(data) if isinstance(data, str) else data)
    return {"type": "image", "data": encoded, "mimeType": media_type}
