"""Markdown as HTML, for a chat: a widget draws HTML at once, while JupyterLab's own Markdown takes
its time, in which the place is empty.

What the model writes is never HTML: that is shown as it is written. A picture is a link, so that
nothing is fetched by itself.
"""

from functools import cache
from typing import Any

import mistune
from jupyterlab_pygments import JupyterStyle  # type: ignore[import-untyped]
from mistune.util import escape
from pygments import highlight  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]

from .looks import block, safe


def html(markdown: str) -> str:
    """The HTML of a text, as JupyterLab's own style sheet sets Markdown."""
    return f'<div class="jp-RenderedHTMLCommon jp-RenderedMarkdown">{_reader()(markdown)}</div>'


class _Renderer(mistune.HTMLRenderer):
    """Links open beside the notebook, code is coloured as in an editor's cell."""

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link, that leads nowhere where its scheme may run something."""
        tip = f' title="{escape(title)}"' if title else ""
        return (
            f'<a href="{self.safe_url(url)}"{tip} target="_blank" rel="noopener noreferrer">'
            f"{text}</a>"
        )

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A link to the picture."""
        return self.link(text or safe(url), url, title)

    def block_code(self, code: str, info: str | None = None) -> str:
        """Code in the colours of its language, where that is known."""
        language = (info or "").split()[0] if (info or "").strip() else ""
        return block(_coloured(code.rstrip("\n"), language), wrap=False)


@cache
def _reader() -> Any:
    plugins = ["strikethrough", "table", "task_lists", "url"]
    return mistune.create_markdown(renderer=_Renderer(escape=True), plugins=plugins)


def _coloured(code: str, language: str) -> str:
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return safe(code)
    formatter = HtmlFormatter(nowrap=True, noclasses=True, style=JupyterStyle)
    return str(highlight(code, lexer, formatter)).rstrip("\n")
