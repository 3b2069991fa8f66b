"""Stop sequences: Claude Code has none, so an answer is cut here."""

from collections.abc import Sequence


class StopCutter:
    """Passes text on up to the first of some sequences, which may come in pieces.

    ``found`` is the sequence that was reached. What could be the beginning of one is held back
    until more comes.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.found: str | None = None
        self._sequences = tuple(sequence for sequence in sequences if sequence)
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the answer can be passed on now."""
        if self.found is not None:
            return ""
        if not self._sequences:
            return text
        text = self._held + text
        ends = [
            (text.find(one) + len(one), -len(one), one) for one in self._sequences if one in text
        ]
        if ends:
            # The one that is complete first: so it does not matter in which pieces they come.
            end, _, self.found = min(ends)
            self._held = ""
            return text[: end - len(self.found)]
        keep = max(_overlap(text, sequence) for sequence in self._sequences)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, at the end of an answer without the sequence."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """How many characters at the end of the text are the beginning of the sequence."""
    for length in range(min(len(sequence) - 1, len(text)), 0, -1):
        if text.endswith(sequence[:length]):
            return length
    return 0
