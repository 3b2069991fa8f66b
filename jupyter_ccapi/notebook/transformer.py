"""Have IPython await `%%claude` and `%claude`.

IPython calls a magic and shows what it returns: for a coroutine, its repr
(https://github.com/ipython/ipython/issues/11314). An `await` before the call that IPython makes of
the magic has IPython run the cell on its event loop, like any other cell with an `await`.
"""

import re

from IPython.core.interactiveshell import InteractiveShell

_CELL = "get_ipython().run_cell_magic('claude',"
# `%claude …` and `answer = %claude …`, also in a loop.
_LINE = re.compile(
    r"^(\s*)([\w.\[\], ]+=\s*)?(get_ipython\(\)\.run_line_magic\('claude',.*\))(\s*)$"
)


def await_claude(lines: list[str]) -> list[str]:
    """Put `await` before the calls of the magics; all other lines stay as they are."""
    if lines and lines[0].startswith(_CELL):
        return [f"await {lines[0]}", *lines[1:]]
    return [_LINE.sub(_awaited, line) for line in lines]


def _awaited(line: re.Match[str]) -> str:
    """A magic's line that is awaited; where its value is not assigned, IPython is not to show it
    below the answer.
    """
    indent, target, call, end = line.groups()
    if target:
        return f"{indent}{target}await {call}{end}"
    return f"{indent}(await {call}, None)[1]{end}"


def install(shell: InteractiveShell) -> None:
    """Add the transformer to a shell, once."""
    if await_claude not in shell.input_transformers_post:
        shell.input_transformers_post.append(await_claude)


def remove(shell: InteractiveShell) -> None:
    """Take the transformer out of a shell."""
    if await_claude in shell.input_transformers_post:
        shell.input_transformers_post.remove(await_claude)
