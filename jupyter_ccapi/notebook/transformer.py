"""Have IPython await `%%claude`.

IPython calls a cell magic and shows what it returns: for a coroutine, its repr
(https://github.com/ipython/ipython/issues/11314). An `await` before the call that IPython makes of
the cell has IPython run it on its event loop, like any other cell with an `await`.
"""

from IPython.core.interactiveshell import InteractiveShell

_CALL = "get_ipython().run_cell_magic('claude',"


def await_claude(lines: list[str]) -> list[str]:
    """Put `await` before the call of `%%claude`; lines of any other cell stay as they are."""
    if lines and lines[0].startswith(_CALL):
        return [f"await {lines[0]}", *lines[1:]]
    return lines


def install(shell: InteractiveShell) -> None:
    """Add the transformer to a shell, once."""
    if await_claude not in shell.input_transformers_post:
        shell.input_transformers_post.append(await_claude)


def remove(shell: InteractiveShell) -> None:
    """Take the transformer out of a shell."""
    if await_claude in shell.input_transformers_post:
        shell.input_transformers_post.remove(await_claude)
