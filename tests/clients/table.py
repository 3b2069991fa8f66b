"""The table client x feature: what the tests of this folder declare, and what came of them.

A module of tests says which client it is about (``pytestmark = pytest.mark.client("…")``), a test
which feature it shows (``@pytest.mark.feature("…")``), or that it is not to be had and how that is
said (``supported=False``). ``python -m tests.clients.table`` prints what is declared, as README has
it; a run of the tests prints at its end what came of it.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

Cell = Literal["yes", "no", "failed", "skipped"]
#: A cell for each (feature, client); where there is none, nobody asked for it.
Cells = Mapping[tuple[str, str], Cell]

CLIENTS = (
    "openai-python",
    "langchain-openai",
    "instructor",
    "openai (Node)",
    "@ai-sdk/openai",
    "anthropic",
)
FEATURES = (
    "chat",
    "streaming",
    "async",
    "history",
    "thinking",
    "usage and cost",
    "length and stop",
    "tool calls",
    "tool calls, streamed",
    "parallel tool calls",
    "forced tool choice",
    "structured output",
    "structured output, streamed",
    "images",
    "Responses",
    "Responses, streamed",
    "Responses: tool calls",
    "Responses: structured output",
    "Responses: earlier ones gone on from",
    "Conversations API",
    "conversation_id",
    "agent mode",
    "batches",
    "models",
    "token counts",
    "errors",
    "retries",
    "Idempotency-Key",
    "request ids",
    "audio",
    "files",
    "n over 1",
    "log probabilities",
    "embeddings",
    "hosted tools (web search …)",
    "background responses",
)
# What tells more about a cell comes first.
_WEIGHT: tuple[Cell, ...] = ("failed", "skipped", "no", "yes")
_FOLDER = Path(__file__).parent


def declared() -> dict[tuple[str, str], Cell]:
    """What the tests declare, read from their sources: no client need be installed for it."""
    cells: dict[tuple[str, str], Cell] = {}
    for path in sorted(_FOLDER.glob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"), str(path))
        client = next((mark.args[0] for mark in _marks(tree, "client")), None)
        for mark in _marks(tree, "feature"):
            assert client is not None, f"{path.name} does not say which client it is about"
            supported = not any(keyword.arg == "supported" for keyword in mark.keywords)
            key = (ast.literal_eval(mark.args[0]), ast.literal_eval(client))
            note(cells, key, "yes" if supported else "no")
    return cells


def note(cells: dict[tuple[str, str], Cell], key: tuple[str, str], cell: Cell) -> None:
    """Add what came of one test; several tests of one cell must all have passed."""
    feature, client = key
    assert feature in FEATURES, f"{feature!r} is no row of the table"
    assert client in CLIENTS, f"{client!r} is no column of the table"
    cells[key] = min(cell, cells.get(key, cell), key=_WEIGHT.index)


def markdown(cells: Cells) -> str:
    """The table, without rows and columns that nothing is known of."""
    clients = [name for name in CLIENTS if any(client == name for _, client in cells)]
    features = [name for name in FEATURES if any(feature == name for feature, _ in cells)]
    rows = [["", *clients], ["---"] * (len(clients) + 1)]
    rows += [
        [feature, *(cells.get((feature, client), "-") for client in clients)]
        for feature in features
    ]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


def _marks(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{name}":
            yield node


if __name__ == "__main__":
    print(markdown(declared()))
