"""The models that can be asked for, in the shape of GET /v1/models."""

from collections.abc import Iterable, Mapping
from typing import Any

from jupyter_ccapi.claude import ALIASES

# OpenAI's model objects have a creation time; the CLI reports none, and no client reads it.
_CREATED = 0


def model_list(
    reported: Iterable[Mapping[str, Any]], model_map: Mapping[str, str]
) -> dict[str, Any]:
    """All names: the aliases, what the CLI reports (alias and full name), and the configuration's
    own.

    ``reported`` are the CLI's model entries (``value``, ``resolvedModel``, ``displayName``).
    """
    models = {alias: model_object(alias) for alias in ALIASES}
    for entry in reported:
        full = entry.get("resolvedModel")
        for name in (entry.get("value"), full):
            if name:
                models[name] = model_object(
                    name, answered_by=full, display_name=entry.get("displayName")
                )
    for name, target in model_map.items():
        models[name] = model_object(name, answered_by=target)
    return {"object": "list", "data": list(models.values())}


def model_object(
    name: str, *, answered_by: str | None = None, display_name: str | None = None
) -> dict[str, Any]:
    """One model; ``ccapi`` says what stands behind the name."""
    model: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "anthropic",
    }
    details = {"answered_by": answered_by, "display_name": display_name}
    if known := {key: value for key, value in details.items() if value and value != name}:
        model["ccapi"] = known
    return model
