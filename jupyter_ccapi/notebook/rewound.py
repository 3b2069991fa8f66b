"""What a rewind did, or would do, as a cell shows it."""

from dataclasses import dataclass

from jupyter_ccapi.claude.planning import Plan


@dataclass(frozen=True, slots=True)
class Rewound:
    """A rewind; `done` says whether it was, or is only looked at. `plan` has it all."""

    plan: Plan
    done: bool
    undo: bool = False

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from . import rewind_view

        return rewind_view.bundle(self.plan, done=self.done, undo=self.undo)

    def __str__(self) -> str:
        """What it is in text."""
        return self._repr_mimebundle_()["text/plain"]

    __repr__ = __str__
