"""The few styles that everything in a cell shares, and HTML that any notebook shows.

A notebook that is not trusted shows HTML as JupyterLab's sanitizer leaves it
(https://github.com/jupyterlab/jupyterlab/blob/main/packages/apputils/src/sanitizer.ts): `details`,
`summary` and images stay, and of `style` the properties that it knows with values that it knows. A
theme's variable passes as a colour, and only with a fallback written as `rgb()`; in a border or a
font it does not. The fallbacks read on light and on dark, for pages that have no such variables.
"""

from html import escape

Bundle = dict[str, str]

MUTED = "color: var(--jp-ui-font-color2, rgb(122, 122, 122))"
BAD = "color: var(--jp-error-color1, rgb(217, 58, 50))"
GOOD = "color: var(--jp-success-color1, rgb(46, 144, 62))"
CALLING = "color: var(--jp-brand-color1, rgb(33, 131, 224)); font-weight: 600"
ADDED = "background-color: rgba(46, 160, 67, 0.16)"
REMOVED = "background-color: rgba(248, 81, 73, 0.16)"

#: Every line of ours is as high as any other, so that one can take another's place.
LINE = "font-size: 13px; line-height: 22px; margin: 0"

# The small type is the triangle's.
_SUMMARY = "font-size: 9px; line-height: 22px; list-style-position: outside; cursor: pointer"
_PAPER = "background-color: rgba(128, 128, 128, 0.08); border-radius: 4px"
_CODE = "font-size: 12px; line-height: 18px; margin: 4px 0; padding: 6px 10px"


def safe(text: str) -> str:
    """Text of others, as HTML shows it."""
    return escape(text, quote=False)


def span(style: str, text: str) -> str:
    """A piece of a line."""
    return f'<span style="{style}">{safe(text)}</span>'


def line(text: str) -> Bundle:
    """A quiet line of our own."""
    return {"text/html": note(text), "text/plain": text}


def note(text: str) -> str:
    """A quiet line, as HTML."""
    return f'<div style="{LINE}; {MUTED}">{safe(text)}</div>'


def block(html: str, *, wrap: bool = True) -> str:
    """Code or output on paper of its own, which scrolls when it is long."""
    space = f"white-space: {'pre-wrap; overflow-wrap: break-word' if wrap else 'pre'}"
    code = f"display: block; line-height: 18px; background-color: transparent; {space}"
    # `code` too: not every page sets `pre` in a font of equal widths.
    return (
        f'<pre style="{_CODE}; {_PAPER}; max-height: 420px; overflow: auto; {space}">'
        f'<code style="{code}">{html}</code></pre>'
    )


def folded(summary: str, body: str) -> str:
    """A line of HTML that unfolds to more."""
    return (
        '<details style="margin: 0 0 0 16px; max-width: 860px">'
        f'<summary style="{_SUMMARY}"><div style="{LINE}">{summary}</div></summary>'
        f'<div style="margin-bottom: 10px">{body}</div></details>'
    )
