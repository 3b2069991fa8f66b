"""How two versions of a file differ, by lines, as git shows it; fast for long files too.

Lines end with a line feed alone, as in git. Bytes that are not UTF-8 are shown as U+FFFD.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import repeat
from typing import NamedTuple

# Where more lines than this lie between two that are unique, comparing them would take seconds.
_MOST_COMPARED = 2_000
_CONTEXT = 3
# For files that are longer together, to find the lines that moved would take seconds as well.
_MOST_BYTES = 8 * 1024 * 1024
_MODES = {0o100644: "100644", 0o100755: "100755", 0o120000: "120000"}
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


class Side(NamedTuple):
    """A file before or after: git's mode (0o100644, 0o100755 or 0o120000) and its content."""

    mode: int
    content: bytes


class Block(NamedTuple):
    """Lines ``start`` to ``end`` of the old version, now ``begin`` to ``stop`` of the new one."""

    start: int
    end: int
    begin: int
    stop: int


def is_binary(content: bytes) -> bool:
    """Whether git would call it binary: there is a NUL near its beginning."""
    return b"\0" in content[:8000]


def count(old: bytes, new: bytes) -> tuple[int, int]:
    """How many lines were inserted and deleted. In very long files, lines that have only moved do
    not count.
    """
    if len(old) + len(new) > _MOST_BYTES:
        one, other = Counter(_lines(old)), Counter(_lines(new))
        common = sum(map(min, one.values(), map(other.get, one, repeat(0))))
        return other.total() - common, one.total() - common
    blocks = changed_blocks(_lines(old), _lines(new))
    return sum(one.stop - one.begin for one in blocks), sum(one.end - one.start for one in blocks)


def changed_blocks(old: Sequence[bytes], new: Sequence[bytes]) -> list[Block]:
    """Which lines were replaced by which, in order; what lies between them is equal."""
    found: list[Block] = []
    for block in _compare(old, new, Block(0, len(old), 0, len(new))):
        if found and found[-1].end == block.start and found[-1].stop == block.begin:
            block = Block(found[-1].start, block.end, found.pop().begin, block.stop)
        found.append(block)
    return found


def unified(path: str, old: Side | None, new: Side | None) -> str:
    """The difference as git shows it; None stands for no file. It ends with a line feed."""
    before, after = old.content if old else b"", new.content if new else b""
    names = _quoted(f"a/{path}"), _quoted(f"b/{path}")
    head = [f"diff --git {names[0]} {names[1]}", *_mode_lines(old, new)]
    shown = names[0] if old else "/dev/null", names[1] if new else "/dev/null"
    if before == after:
        return "\n".join(head) + "\n"
    if is_binary(before) or is_binary(after):
        return "\n".join([*head, f"Binary files {shown[0]} and {shown[1]} differ"]) + "\n"
    lines = _lines(before), _lines(after)
    head += [f"--- {shown[0]}", f"+++ {shown[1]}"]
    hunks = (_hunk(*lines, blocks) for blocks in _grouped(changed_blocks(*lines)))
    return "\n".join(head) + "\n" + "".join(hunks)


def _compare(old: Sequence[bytes], new: Sequence[bytes], part: Block) -> Iterator[Block]:
    """The changed blocks of a part: between the lines that are unique in both of its sides, and
    in the same order in both, the rest is compared piece by piece.
    """
    part = _trimmed(old, new, part)
    start, end, begin, stop = part
    if start == end or begin == stop:
        if start < end or begin < stop:
            yield part
        return
    for anchor_old, anchor_new in [*_anchors(old, new, part), (end, stop)]:
        yield from _between(old, new, Block(start, anchor_old, begin, anchor_new))
        start, begin = anchor_old + 1, anchor_new + 1


def _between(old: Sequence[bytes], new: Sequence[bytes], part: Block) -> Iterator[Block]:
    """The changed blocks of a part without unique lines."""
    part = _trimmed(old, new, part)
    start, end, begin, stop = part
    if start == end and begin == stop:
        return
    if max(end - start, stop - begin) > _MOST_COMPARED:
        yield part
        return
    matcher = SequenceMatcher(None, old[start:end], new[begin:stop])
    for kind, first, last, other, until in matcher.get_opcodes():
        if kind != "equal":
            yield Block(start + first, start + last, begin + other, begin + until)


def _trimmed(old: Sequence[bytes], new: Sequence[bytes], part: Block) -> Block:
    """Without the equal lines at its beginning and end."""
    start, end, begin, stop = part
    while start < end and begin < stop and old[start] == new[begin]:
        start, begin = start + 1, begin + 1
    while start < end and begin < stop and old[end - 1] == new[stop - 1]:
        end, stop = end - 1, stop - 1
    return Block(start, end, begin, stop)


def _anchors(old: Sequence[bytes], new: Sequence[bytes], part: Block) -> list[tuple[int, int]]:
    """The longest run of lines that are unique in both sides and stand in the same order (the
    patience diff).
    """
    start, end, begin, stop = part
    often_old, often_new = Counter(old[start:end]), Counter(new[begin:stop])
    where = {new[at]: at for at in range(begin, stop) if often_new[new[at]] == 1}
    pairs = [
        (at, where[old[at]])
        for at in range(start, end)
        if often_old[old[at]] == 1 and old[at] in where
    ]
    tails: list[int] = []
    chains: list[int] = []
    previous: list[int] = []
    for number, (_, at) in enumerate(pairs):
        length = bisect_left(tails, at)
        previous.append(chains[length - 1] if length else -1)
        tails[length : length + 1] = [at]
        chains[length : length + 1] = [number]
    found = []
    number = chains[-1] if chains else -1
    while number >= 0:
        found.append(pairs[number])
        number = previous[number]
    return found[::-1]


def _grouped(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks that are so near that their contexts touch."""
    group: list[Block] = []
    for block in blocks:
        if group and block.start - group[-1].end > 2 * _CONTEXT:
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _hunk(old: Sequence[bytes], new: Sequence[bytes], blocks: Sequence[Block]) -> str:
    lead = min(_CONTEXT, blocks[0].start)
    trail = min(_CONTEXT, len(old) - blocks[-1].end)
    start, end = blocks[0].start - lead, blocks[-1].end + trail
    begin, stop = blocks[0].begin - lead, blocks[-1].stop + trail
    made = [f"@@ -{_span(start, end)} +{_span(begin, stop)} @@\n"]
    at = start
    for block in blocks:
        made += [_line(" ", line) for line in old[at : block.start]]
        made += [_line("-", line) for line in old[block.start : block.end]]
        made += [_line("+", line) for line in new[block.begin : block.stop]]
        at = block.end
    made += [_line(" ", line) for line in old[at:end]]
    return "".join(made)


def _span(start: int, end: int) -> str:
    length = end - start
    first = start + 1 if length else start
    return f"{first}" if length == 1 else f"{first},{length}"


def _line(sign: str, line: bytes) -> str:
    text = sign + line.decode("utf-8", "replace")
    return text if text.endswith("\n") else text + "\n\\ No newline at end of file\n"


def _mode_lines(old: Side | None, new: Side | None) -> list[str]:
    if old is None and new is not None:
        return [f"new file mode {_MODES[new.mode]}"]
    if new is None and old is not None:
        return [f"deleted file mode {_MODES[old.mode]}"]
    if old is not None and new is not None and old.mode != new.mode:
        return [f"old mode {_MODES[old.mode]}", f"new mode {_MODES[new.mode]}"]
    return []


def _lines(content: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in content.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _quoted(name: str) -> str:
    """A name as git writes it: in quotes, where it holds what would break a line or a quote."""
    plain = True
    made: list[str] = []
    for character in name:
        byte = ord(character)
        if byte in _ESCAPES:
            made.append("\\" + _ESCAPES[byte])
        elif byte < 32 or byte == 127 or 0xDC80 <= byte <= 0xDCFF:
            made.append(f"\\{byte & 0xFF:03o}")
        else:
            made.append(character)
            continue
        plain = False
    return name if plain else '"' + "".join(made) + '"'
