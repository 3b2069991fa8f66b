"""What a `%%claude` cell shows beside its cards, as MIME bundles: answer, thoughts, and footer.

Pure functions, from events to what is displayed. Saved with the notebook, all of it reads without
widgets and without this package, whether the notebook is trusted or not.
"""

import re

from jupyter_ccapi.claude import TurnEnd, Usage

from . import looks
from .looks import LINE, MUTED, Bundle, folded, safe, span
from .markdown import drawable

_LINE = 80
_GO_ON = "Go on with the next %%claude cell"

#: What the footer says of a turn that did not come to its own end, by the turn's end reason or by
#: the API's stop reason.
_ENDINGS = {
    "interrupted": "Stopped",
    "max_tokens": "Cut off at the model's output limit",
    "refusal": "Declined by the model",
}


def waiting() -> Bundle:
    """The line that stands until the next words come."""
    return looks.line("Waiting for Claude…")


def stopping() -> Bundle:
    """The line that stands from the press of the stop button to the end of the turn."""
    return looks.line("Stopping…")


def broken_off() -> Bundle:
    """The line that stays where more was waited for, above the error that says why."""
    return looks.line("Broken off")


def answer(text: str) -> Bundle:
    """A whole part of the answer, exactly as the model made it."""
    return {"text/markdown": text, "text/plain": text}


def partial_answer(text: str) -> Bundle:
    """A part of the answer that is still being written."""
    return {"text/markdown": drawable(text), "text/plain": text}


def thinking(thoughts: str) -> Bundle:
    """One line while the model thinks, with the end of its latest thought."""
    lines = thoughts.split("\n")
    latest = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if len(latest) > _LINE:
        latest = "…" + re.sub(r"^\S{0,20} ", "", latest[-_LINE:])  # from a word's start
    return looks.line(f"Thinking… {latest}".rstrip())


def thought(thoughts: str, seconds: float) -> Bundle:
    """All thoughts, folded."""
    title = f"Thought for {round(seconds)} s" if seconds >= 1 else "Thought for a moment"
    paragraphs = "".join(
        f"<p>{safe(paragraph)}</p>".replace("\n", "<br>")
        for paragraph in thoughts.strip().split("\n\n")
    )
    body = f'<div style="font-size: 13px; margin: 4px 0; {MUTED}">{paragraphs}</div>'
    return {"text/html": folded(span(MUTED, title), body), "text/plain": title}


def footer(end: TurnEnd | None, budget: float | None = None) -> Bundle:
    """The last lines: how the turn ended where not by itself, then model, tokens, cost, time.

    None for a turn whose end was not waited for; `budget` is what the cell may spend, in USD.
    """
    notice = "" if end is None else _notice(end, budget)
    html = f'<div style="{LINE}">{safe(notice)}</div>' if notice else ""
    html += looks.note(_figures(end))
    return {"text/html": html, "text/plain": summary(end, budget)}


def summary(end: TurnEnd | None, budget: float | None = None) -> str:
    """The footer's text.

    `claude-sonnet-4-5 · 1,234 tokens in (1,000 cached), 56 out · $0.0123 · 2.1 s · checkpoint 3`
    """
    notice = "" if end is None else _notice(end, budget)
    return "\n".join(line for line in (notice, _figures(end)) if line)


def _notice(end: TurnEnd, budget: float | None) -> str:
    """What a person has to know who wants to go on."""
    match end.reason:
        case "max_budget":
            cap = "" if budget is None else f" of {_dollars(budget)}"
            return (
                f"Stopped: this cell's budget{cap} is spent. {_GO_ON}, or give more with --budget."
            )
        case "max_turns":
            return (
                f"Stopped: the steps that --max-turns allows are used up. {_GO_ON}, or allow more."
            )
        case _:
            return ""


def _figures(end: TurnEnd | None) -> str:
    if end is None:
        return _ENDINGS["interrupted"]
    parts = [
        _ENDINGS.get(end.reason) or _ENDINGS.get(end.stop_reason or "", ""),
        end.model,
        _tokens(end.usage),
        _cost(end.cost_usd),
        f"{end.seconds:.1f} s" if end.seconds else "",
        f"checkpoint {end.checkpoint}" if end.checkpoint else "",
    ]
    return " · ".join(part for part in parts if part)


def _tokens(usage: Usage) -> str:
    """Those that were read from the cache and written to it stand apart."""
    if not usage.total_tokens:
        return ""
    read = f"{usage.cache_read_tokens:,} cached" if usage.cache_read_tokens else ""
    written = f"{usage.cache_creation_tokens:,} newly cached" if usage.cache_creation_tokens else ""
    cached = ", ".join(part for part in (read, written) if part)
    cached = f" ({cached})" if cached else ""
    return f"{usage.prompt_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"


def _cost(usd: float) -> str:
    if not usd:
        return ""
    return f"${usd:.4f}" if usd >= 0.0001 else "< $0.0001"


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 0.01 else f"${usd:g}"
