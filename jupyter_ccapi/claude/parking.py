"""Calls of the client's tools, which wait in the CLI until the client has their results.

The CLI asks for each call with the control request ``mcp_message`` (``tools/call``), whose
``_meta["claudecode/toolUseId"]`` is the call's id, and waits for the answer as long as the
``timeout`` of the server says that offers the tools. It asks for all calls of a message at once,
while it still reads that message.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .history import Content, Held, Message
from .recording import Recorder
from .tools import SERVER, Toolbox

# The name of a call in what the CLI asks (CLI 2.1.330).
_CALL_ID = "claudecode/toolUseId"
# Longer results the CLI puts into a file of its own, from 50,000 characters on.
_LONGEST = 40_000
_REFUSED = (
    "This tool was not called, because it cannot be called beside other tools. Call it in a "
    "message of its own."
)


class OpenCalls:
    """The calls of the client's tools that one CLI has asked for, and what they are answered.

    ``write`` sends the CLI a line.
    """

    def __init__(self, write: Callable[[str], Awaitable[None]], toolbox: Toolbox) -> None:
        self._write = write
        self._toolbox = toolbox
        # By the call's id: the names of the control request and of the request in it.
        self._asked: dict[str, tuple[str, Any]] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._arrived = asyncio.Event()
        self._writing: set[asyncio.Task[None]] = set()

    def take(self, line: Mapping[str, Any]) -> bool:
        """Whether this message of the CLI's is such a call, or takes one back: then nobody else
        need see it.
        """
        if line.get("type") == "control_cancel_request":
            return self._taken_back(line.get("request_id"))
        request = line.get("request") or {}
        message = request.get("message") or {}
        if request.get("subtype") != "mcp_message" or request.get("server_name") != SERVER:
            return False
        params = message.get("params") or {}
        if message.get("method") != "tools/call" or not self._toolbox.is_client(
            str(params.get("name"))
        ):
            return False
        call = str((params.get("_meta") or {}).get(_CALL_ID))
        self._asked[call] = (str(line.get("request_id")), message.get("id"))
        self._arrived.set()
        if call in self._answers:
            task = asyncio.get_running_loop().create_task(self._tell(call))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return True

    def _taken_back(self, request_id: Any) -> bool:
        for call, (asked, _) in self._asked.items():
            if asked == request_id:
                del self._asked[call]
                return True
        return False

    def are_open(self, calls: Collection[str]) -> bool:
        """Whether the CLI has asked for all these calls and waits for their results."""
        return self._asked.keys() >= set(calls)

    async def asked(self, calls: Collection[str], patience: float) -> bool:
        """Wait until the CLI has asked for all these calls, at most so many seconds; False where
        it has not.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self.are_open(calls):
                    self._arrived.clear()
                    await self._arrived.wait()
        return self.are_open(calls)

    def forget(self) -> None:
        """Another turn begins, in which what was asked before counts no longer."""
        self._asked.clear()
        self._answers.clear()

    async def answer(self, results: Mapping[str, dict[str, Any]]) -> None:
        """Answer calls, now or once they are asked for, in this order, which is the order in which
        the model is told. Raises ``CLIConnectionError`` where the CLI is gone.
        """
        self._answers.update(results)
        for call in results:
            if call in self._asked:
                await self._tell(call)

    async def refuse(self, calls: Collection[str]) -> None:
        """Have the model told that these were not made."""
        told = {"content": [{"type": "text", "text": _REFUSED}], "isError": True}
        await self.answer(dict.fromkeys(calls, told))

    async def _tell(self, call: str) -> None:
        request_id, number = self._asked.pop(call)
        answer = {"jsonrpc": "2.0", "id": number, "result": self._answers.pop(call)}
        response = {
            "subtype": "success",
            "request_id": request_id,
            "response": {"mcp_response": answer},
        }
        await self._write(json.dumps({"type": "control_response", "response": response}) + "\n")


@dataclass(slots=True)
class Run:
    """One turn of the CLI's, which may be several of ours: it waits for the client in between.

    ``before`` is what the process held when it began, None where that was in doubt; ``told`` is
    how many of the recorded messages earlier turns of ours have told.
    """

    uuid: str
    before: list[Held] | None
    prompt: Held
    recorder: Recorder
    told: int = 0

    def held(self, added: Sequence[Held] | None) -> list[Held] | None:
        """What the process holds when this was added."""
        if self.before is None or added is None:
            return None
        return [*self.before, self.prompt, *added]

    def tell(self, added: Sequence[Held] | None) -> list[Message] | None:
        """The messages that nobody was told of yet, the prompt among them."""
        if added is None:
            return None
        first = [] if self.told else [self.prompt.message]
        told = [*first, *(held.message for held in added[self.told :])]
        self.told = len(added)
        return told


def results_for(calls: Collection[str], content: Content) -> dict[str, dict[str, Any]] | None:
    """The MCP results by which the model is told exactly this prompt's, in their order.

    None where the prompt is anything but one result for each of these calls, or where the CLI
    would tell something else: it puts long results into a file, words for empty ones, makes
    pictures smaller, and joins the texts of an error.
    """
    blocks = content if isinstance(content, list) else []
    results: dict[str, dict[str, Any]] = {}
    length = 0
    for block in blocks:
        call, texts = str(block.get("tool_use_id")), _texts(block.get("content"))
        failed = bool(block.get("is_error"))
        if block.get("type") != "tool_result" or call not in calls or call in results:
            return None
        if not texts or not all(texts) or (failed and len(texts) > 1):
            return None
        length += sum(map(len, texts))
        told = [{"type": "text", "text": text} for text in texts]
        results[call] = {"content": told, "isError": failed}
    return results if len(results) == len(calls) and length <= _LONGEST else None


def _texts(content: Any) -> list[str]:
    """The texts of a result; none where it has anything else."""
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    plain = all(isinstance(b, dict) and b.get("type") == "text" for b in blocks)
    return [str(block.get("text") or "") for block in blocks] if plain else []
