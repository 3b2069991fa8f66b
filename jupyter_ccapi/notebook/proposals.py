"""Propose cells: they are put below the running one when it has ended, and never run by us."""

from typing import Any

from IPython.core.interactiveshell import InteractiveShell

_KINDS = ("code", "markdown")


class Proposals:
    """The cells that were proposed in the running cell.

    A notebook takes one ``set_next_input`` payload from a cell, the first (JupyterLab 4.6,
    ``handlePayload``), and makes a code cell of it. So several proposals go into one payload, in
    the percent format that editors split cells by, and Markdown comes as ``%%markdown``.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._parts: list[tuple[str, str]] = []
        self._payload: dict[str, Any] | None = None

    def add(self, source: str, kind: str) -> str:
        """Propose a cell of a kind, ``code`` or ``markdown``; returns what to tell the model."""
        if kind not in _KINDS:
            raise ValueError(f"kind must be code or markdown, not {kind!r}.")
        if not source.strip():
            raise ValueError("source is empty: there is nothing to propose.")
        if getattr(self._shell, "kernel", None) is None:
            return self._at_prompt(source, kind)
        manager: Any = self._shell.payload_manager
        if not any(payload is self._payload for payload in manager.read_payload()):
            self._parts = []  # what was proposed before has arrived
        self._parts.append((source.strip("\n"), kind))
        if len(self._parts) == 1:
            self._payload = {"source": "set_next_input", "replace": False}
            manager.write_payload(self._payload, single=False)
        assert self._payload is not None
        self._payload["text"] = self._text()
        return "Proposed: the cell will be there when the turn has ended; the user may run it."

    def _at_prompt(self, source: str, kind: str) -> str:
        """In a terminal the next prompt is filled in."""
        waiting = getattr(self._shell, "rl_next_input", None)
        text = source.strip("\n") if kind == "code" else _comment(source)
        self._shell.set_next_input(f"{waiting}\n{text}" if waiting else text)
        return "Proposed: it will stand at the user's next prompt; the user may run it."

    def _text(self) -> str:
        if len(self._parts) == 1:
            source, kind = self._parts[0]
            return source if kind == "code" else f"%%markdown\n{source}"
        return "\n\n".join(
            f"# %%\n{source}" if kind == "code" else f"# %% [markdown]\n{_comment(source)}"
            for source, kind in self._parts
        )


def _comment(text: str) -> str:
    return "\n".join(f"# {line}".rstrip() for line in text.strip("\n").splitlines())
