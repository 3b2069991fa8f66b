"""What the offline model answers to a request: its directives, what it knows of the manual, a
schema filled, or its usual words.

Which requests the CLI makes beside a conversation was measured on CLI 2.1.330.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jupyter_ccapi.demo import directives, manual, reading, schema, words
from jupyter_ccapi.demo.replies import ApiError, Reply

STRUCTURED_OUTPUT = "StructuredOutput"
"""The tool that the CLI offers for `--json-schema`; its input schema is the one that was asked."""

COMPACTING = ("CRITICAL: Respond with TEXT ONLY", "Your task is to create a detailed summary")
SIDE_TEXTS = (
    *COMPACTING,
    "[SUGGESTION MODE:",
    "Generate a short kebab-case name",
    "The user stepped away and is coming back.",
)
"""How the CLI opens what it adds to a conversation for its own use."""


def complaint(body: Any) -> ApiError | None:
    """Return what is wrong with a request body, or `None`."""
    if not isinstance(body, Mapping):
        return ApiError(400, "", "The request body is not a JSON object.")
    if not isinstance(body.get("model"), str):
        return ApiError(400, "", "model: a string is required")
    if not reading.entries(body):
        return ApiError(400, "", "messages: at least one message is required")
    return None


def is_side(body: Any) -> bool:
    """Tell whether the CLI asks this for itself: a probe, a title, a summary of the conversation.

    Probes (quota, model checks, warm-ups) ask for at most one token; titles and the like offer no
    tools and want JSON; what compacts or describes a conversation has a text of its own at its end.
    """
    if not isinstance(body, Mapping):
        return False
    most = body.get("max_tokens")
    if isinstance(most, int) and most <= 1:
        return True
    if wanted_format(body) is not None and not reading.tools(body):
        return True
    return reading.user_text(body).startswith(SIDE_TEXTS)


def side_answer(body: Any) -> Reply:
    """Return a short answer to a side request: JSON where that is wanted, else a few words."""
    if (wanted := wanted_format(body)) is not None:
        return Reply(json.dumps(schema.instance(wanted)))
    if reading.user_text(body).startswith(COMPACTING):
        return Reply(words.summary(body))
    return Reply("Offline demo model")


def wanted_format(body: Any) -> Any:
    """Return the schema of `output_config.format`, Anthropic's own structured output, or `None`."""
    config = body.get("output_config") if isinstance(body, Mapping) else None
    form = config.get("format") if isinstance(config, Mapping) else None
    return form.get("schema") if isinstance(form, Mapping) else None


def answer(body: Any) -> Reply:
    """Return the answer to a request of a conversation."""
    try:
        asked = directives.parse(reading.user_text(body))
    except directives.DirectiveError as error:
        return Reply(words.misunderstood(str(error)))
    results = reading.tool_results(body)
    known = manual.script(body)
    reply = manual.said_next(body, known) if known else said_next(body, asked)
    wanted = forced_tool(body)
    if wanted and not reply.tools and not any(r.name == wanted[0] and not r.error for r in results):
        return replace(reply, tools=(wanted,))
    if reply.text or reply.tools or reply.error:
        return reply
    if results:
        text = words.quoted(results)
    else:
        text = words.NOTED if reading.answers_since_user(body) else words.usual(body)
    return replace(reply, text=text)


def said_next(body: Any, asked: Sequence[Reply]) -> Reply:
    """Return the message whose turn it is among those that the user's directives ask for.

    An empty one where there are none or all have been said. When the CLI has the model go on after
    a message that was cut off, the last one is cut off again.
    """
    step = reading.answers_since_user(body)
    if step < len(asked):
        return asked[step]
    if not asked:
        return Reply()
    last = asked[-1]
    if (last.stop_reason == "max_tokens" or last.error) and not reading.tool_results(body):
        return last
    return Reply(word_delay=last.word_delay)


def forced_tool(body: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the call of the tool that has to be called, its input filled from the schema."""
    choice = body.get("tool_choice") if isinstance(body, Mapping) else None
    kind, named = (choice.get("type"), choice.get("name")) if isinstance(choice, dict) else ("", "")
    for tool in reading.tools(body):
        name = str(tool.get("name", ""))
        if name == STRUCTURED_OUTPUT or kind == "any" or (kind == "tool" and name == named):
            filled = schema.instance(tool.get("input_schema"))
            return name, filled if isinstance(filled, dict) else {}
    return None
