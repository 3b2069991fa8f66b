"""What the CLI at hand can do beyond its public face, and what is done where it cannot."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about one version of the CLI that its makers do not promise. All False: only public
    ways are gone. ``FACTS`` says what each is good for.
    """

    bind_at_initialize: bool = False
    schema_at_initialize: bool = False
    seed: bool = False
    rewind_conversation: bool = False
    set_bounds: bool = False
    preview_rewind: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A capability for people: its field's ``name``, ``what`` the CLI is asked to do, what that is
    good for (``given``) and what is done ``without`` it.
    """

    name: str
    what: str
    given: str
    without: str


#: All fields of ``Capabilities``, in their order.
FACTS = (
    Fact(
        "bind_at_initialize",
        "system prompt at initialize",
        "a spare takes up any system prompt",
        "spares start with it as a flag",
    ),
    Fact(
        "schema_at_initialize",
        "answer schema at initialize",
        "a spare takes up any schema",
        "spares start with it as a flag",
    ),
    Fact(
        "seed",
        "history into a running process",
        "a warm process goes on with any history",
        "a new process resumes it from a transcript",
    ),
    Fact(
        "rewind_conversation",
        "cutting a conversation back",
        "processes are reused, edited histories too",
        "a new process for each",
    ),
    Fact(
        "set_bounds",
        "bounds of a running process",
        "a warm process takes any max_tokens",
        "a new process for each that sets it",
    ),
    Fact(
        "preview_rewind",
        "preview of a rewind of files",
        "Claude Code tells it",
        "files are rewound, compared and put back",
    ),
)

#: Nothing but public ways.
PUBLIC = Capabilities()
