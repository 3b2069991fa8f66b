"""Which model names are accepted, and what the CLI is given for each."""

import re
from collections.abc import Iterable, Mapping

from .errors import UnknownModel

#: Aliases that every CLI knows: the newest model of each family.
ALIASES = ("opus", "sonnet", "haiku")

# A provider's own id: Bedrock's (with or without a region, or a whole ARN) and Vertex's
# (claude-…@date is covered by the claude- prefix).
_PROVIDER_ID = re.compile(
    r"arn:aws[\w-]*:bedrock:\S+"
    r"|([a-z-]{2,10}\.)?anthropic\.claude-\S+"
    r"|publishers/anthropic/models/claude-\S+"
)
# The short names of claude-code-api-rs (sonnet-4, opus-4.1, claude-3.5-sonnet): nobody serves
# them, a family is meant. Names with a date or with the family first (claude-sonnet-4-5) are real
# ones and are passed on as they are.
_SHORT_NAME = re.compile(
    r"(opus|sonnet|haiku)-\d{1,2}(?:[.-]\d{1,2})?"
    r"|claude-\d{1,2}(?:[.-]\d{1,2})?-(opus|sonnet|haiku)"
)
_ALIAS = re.compile(r"[a-z]+(\[1m\])?")


def resolve_model(
    name: str | None, *, model_map: Mapping[str, str], reported: Iterable[str] = ()
) -> str | None:
    """Say what the CLI is to be given for a model name; None stays None, the CLI's default.

    In order: the configuration's ``model_map``, an alias, a name that the CLI itself
    ``reported``, a short name of the family (``sonnet-4`` and the like become the alias), any
    ``claude-*`` name, an id of Bedrock or Vertex. Raises ``UnknownModel`` for the rest, before
    anything is spent.
    """
    if name is None:
        return None
    if name in model_map:
        return model_map[name]
    known = {*ALIASES, *reported}
    if name in known or (_ALIAS.fullmatch(name) and name.removesuffix("[1m]") in known):
        return name
    if short := _SHORT_NAME.fullmatch(name):
        return short[1] or short[2]
    if re.fullmatch(r"claude-[\w.@:\[\]-]+", name) or _PROVIDER_ID.fullmatch(name):
        return name
    raise UnknownModel(name, sorted({*known, *model_map}))
