"""What a rewind would do to which file, and what it leaves alone and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .changes import FileChange, NotCovered
from .copies import digest_of
from .errors import RewindRefused
from .record import Checkpoint, Step

if TYPE_CHECKING:
    from .timeline import Timeline

_OPEN = "it is open: reload it from disk to see what is saved"
_OTHERS = "changed by another hand only"


class Asked(Protocol):
    """How a rewind is asked for, as far as files go."""

    @property
    def force(self) -> bool:
        """Whether what has changed by another hand is overwritten."""

    @property
    def protected(self) -> Collection[Path]:
        """Files that never are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rewind does, or would do.

    ``files`` are changed in the folder, as ``diff`` shows; ``kept`` are left as they are, each with
    the reason; ``conflicts`` were changed by the undone turns and then by another hand: with any
    of them, nothing is done. ``not_covered`` is what no snapshot has. ``undone`` are the
    checkpoints that go, ``returns`` those that come back, ``variables`` what code of the undone
    turns had set in the kernel. ``note`` says where Claude Code's own checkpoints stand in, for
    the files ``own``. ``now`` and ``target`` are the snapshots of before and after.
    """

    checkpoint: int
    words: str
    files: tuple[FileChange, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    conflicts: tuple[str, ...] = ()
    not_covered: tuple[NotCovered, ...] = ()
    diff: str = ""
    undone: tuple[Checkpoint, ...] = ()
    returns: tuple[Checkpoint, ...] = ()
    variables: tuple[str, ...] = ()
    note: str = ""
    own: tuple[Path, ...] = ()
    now: str | None = None
    target: str | None = None

    def check(self) -> None:
        """Raise ``RewindRefused`` where it cannot be done."""
        if self.conflicts:
            names = ", ".join(self.conflicts[:10]) + (" …" if len(self.conflicts) > 10 else "")
            raise RewindRefused(
                f"Nothing was rewound: {names} changed by another hand after Claude's change. "
                "--force overwrites that; --conversation rewinds the conversation alone.",
                conflicts=self.conflicts,
            )


def plan_files(
    plan: Plan, timeline: "Timeline", steps: Sequence[Step], now: str, asked: Asked
) -> Plan:
    """The plan with the files of a snapshot: those before the first of these steps. Blocks."""
    snapshots = timeline.snapshots
    assert snapshots is not None
    target = steps[0].before
    assert target is not None
    ours, others = _who(timeline, steps, now)
    assert timeline.workspace is not None
    # An open file may be a link: neither that nor the file is touched.
    protected = {
        _within(one, timeline.workspace)
        for path in asked.protected
        for one in (path.resolve(), path.parent.resolve() / path.name)
    }
    files: list[FileChange] = []
    kept: list[tuple[str, str]] = []
    conflicts: list[str] = []
    for change in snapshots.changes(now, target):
        if change.path in protected:
            kept.append((change.path, _OPEN))
        elif asked.force or change.path not in others:
            files.append(change)
        elif change.path in ours:
            conflicts.append(change.path)
        else:
            kept.append((change.path, _OTHERS))
    return replace(
        plan,
        files=tuple(files),
        kept=tuple(kept),
        conflicts=tuple(conflicts),
        not_covered=tuple(snapshots.not_covered(now)),
        diff=snapshots.diff(now, target, [one.path for one in files]),
        now=now,
        target=target,
    )


def plan_own(plan: Plan, timeline: "Timeline", later: Sequence[Checkpoint], asked: Asked) -> Plan:
    """The plan with Claude Code's own checkpoints, for a folder that cannot be snapshotted."""
    if timeline.snapshots is None and any(one.edited for one in later):
        raise RewindRefused(
            f"The files cannot be rewound to {plan.checkpoint}: none were kept then. "
            "--conversation rewinds the conversation alone."
        )
    if timeline.snapshots is None:
        return plan
    why = timeline.refusal or "the files of that time are not kept any more"
    if timeline.refusal is None:
        raise RewindRefused(
            f"The files cannot be rewound to {plan.checkpoint}: {why}. --conversation rewinds the "
            "conversation alone."
        )
    if timeline.workspace is None or not timeline.workspace.is_dir():
        raise RewindRefused(
            f"The files cannot be rewound: {why} --conversation rewinds the conversation alone."
        )
    last: dict[str, str | None] = {}
    for checkpoint in later:
        last.update(checkpoint.edited)
    conflicts = [name for name, digest in last.items() if digest_of(Path(name)) != digest]
    open_ones = {str(path) for path in asked.protected} & set(last)
    if open_ones:
        raise RewindRefused(
            f"Nothing was rewound: {', '.join(sorted(open_ones))} is open, and here only all files "
            "can be rewound at once. --conversation rewinds the conversation alone."
        )
    return replace(
        plan,
        note=f"{why} Claude Code's own checkpoints stand in: they cover what its tools Write, Edit "
        "and NotebookEdit changed, and no commands.",
        own=tuple(Path(name) for name in sorted(last)),
        conflicts=() if asked.force else tuple(conflicts),
        not_covered=(NotCovered(".", "the folder cannot be snapshotted"),),
    )


def _who(timeline: "Timeline", steps: Sequence[Step], now: str) -> tuple[set[str], set[str]]:
    """Which files these steps have changed, and which were changed between and after them. What
    changed in a step whose end nobody saw counts as both.
    """
    snapshots = timeline.snapshots
    assert snapshots is not None
    ours: set[str] = set()
    others: set[str] = set()
    known = [(place, step) for place, step in enumerate(steps) if step.before is not None]
    following = [*known[1:], (len(steps), Step("", now))]
    for (place, step), (next_place, then) in zip(known, following, strict=True):
        assert step.before is not None
        assert then.before is not None
        end = step.after or step.before
        ours |= {one.path for one in snapshots.changes(step.before, end)}
        since = {one.path for one in snapshots.changes(end, then.before)}
        others |= since
        if step.after is None or next_place > place + 1:
            ours |= since
    return ours, others


def _within(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder.resolve()).as_posix()
    except ValueError:
        return path.as_posix()
