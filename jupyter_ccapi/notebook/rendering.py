"""What a `%%claude` cell shows, as MIME bundles: pure functions, from events to what is displayed.

Saved with the notebook, all of it reads without widgets and without this package. HTML is kept to
what a notebook that is not trusted may show; colours come from JupyterLab's variables, with a
grey that reads on light and dark for frontends that have none.
"""

import re
from html import escape

from jupyter_ccapi.claude import TurnEnd, Usage

Bundle = dict[str, str]

_MUTED = "color: var(--jp-ui-font-color2, #808080)"
_LINE = 80

#: What the footer says of a turn that did not come to its own end, by the turn's end reason or by
#: the API's stop reason.
_ENDINGS = {
    "interrupted": "Stopped",
    "max_turns": "Ended: too many steps",
    "max_budget": "Ended: budget spent",
    "max_tokens": "Cut off at the model's output limit",
    "refusal": "Declined by the model",
}


def waiting() -> Bundle:
    """The line that stands until the first words come."""
    return _muted("Waiting for Claude…")


def stopping() -> Bundle:
    """The line that stands from the press of the stop button to the end of the turn."""
    return _muted("Stopping…")


def answer(text: str) -> Bundle:
    """The answer so far."""
    return {"text/markdown": text, "text/plain": text}


def thinking(thoughts: str) -> Bundle:
    """One line while the model thinks, with the end of its latest thought."""
    lines = thoughts.split("\n")
    latest = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if len(latest) > _LINE:
        latest = "…" + re.sub(r"^\S{0,20} ", "", latest[-_LINE:])  # from a word's start
    return _muted(f"Thinking… {latest}".rstrip())


def thought(thoughts: str, seconds: float) -> Bundle:
    """All thoughts, folded."""
    title = f"Thought for {round(seconds)} s" if seconds >= 1 else "Thought for a moment"
    paragraphs = "".join(
        f"<p>{escape(paragraph, quote=False)}</p>".replace("\n", "<br>")
        for paragraph in thoughts.strip().split("\n\n")
    )
    html = (
        f'<details style="{_MUTED}"><summary><small>{title}</small></summary>'
        f"<blockquote>{paragraphs}</blockquote></details>"
    )
    return {"text/html": html, "text/plain": title}


def footer(end: TurnEnd | None) -> Bundle:
    """The last line: model, tokens, cost, time; None for a turn whose end was not waited for."""
    return _muted(summary(end))


def summary(end: TurnEnd | None) -> str:
    """The footer's text.

    `claude-sonnet-4-5 · 1,234 tokens in (1,000 cached), 56 out · $0.0123 · 2.1 s`
    """
    if end is None:
        return _ENDINGS["interrupted"]
    parts = [
        _ENDINGS.get(end.reason) or _ENDINGS.get(end.stop_reason or "", ""),
        end.model,
        _tokens(end.usage),
        _cost(end.cost_usd),
        f"{end.seconds:.1f} s" if end.seconds else "",
    ]
    return " · ".join(part for part in parts if part)


def _tokens(usage: Usage) -> str:
    if not usage.total_tokens:
        return ""
    cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
    return f"{usage.prompt_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"


def _cost(usd: float) -> str:
    if not usd:
        return ""
    return f"${usd:.4f}" if usd >= 0.0001 else "< $0.0001"


def _muted(text: str) -> Bundle:
    html = f'<small style="{_MUTED}">{escape(text, quote=False)}</small>'
    return {"text/html": html, "text/plain": text}
