"""What the CLI at hand can do beyond its public face, and what is done where it cannot."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about one version of the CLI that its makers do not promise. All False: only public
    ways are gone.
    """

    bind_at_initialize: bool = False
    schema_at_initialize: bool = False
    seed: bool = False
    rewind_conversation: bool = False
    preview_rewind: bool = False


#: Nothing but public ways.
PUBLIC = Capabilities()
