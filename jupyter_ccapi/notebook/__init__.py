"""The notebook room: `%%claude` in a kernel or in terminal IPython, on the core.

`load` and `unload` are what `%load_ext jupyter_ccapi` and `%unload_ext jupyter_ccapi` call. Where
what happens: `magics` reads the cell, `session` holds the conversation on the core's own thread
(`core_thread`), `following` waits for a turn, and `views` draw it with the bundles of `rendering`.
"""

from IPython.core.interactiveshell import InteractiveShell

from . import transformer
from .errors import CellError, TurnStopped
from .magics import ClaudeMagics

__all__ = ["CellError", "ClaudeMagics", "TurnStopped", "load", "unload"]

_NAME = ClaudeMagics.__name__


def load(shell: InteractiveShell) -> None:
    """Give a shell `%%claude`. Does nothing where it has it already."""
    if _NAME in shell.magics_manager.registry:
        return
    shell.register_magics(ClaudeMagics(shell))
    transformer.install(shell)


def unload(shell: InteractiveShell) -> None:
    """Take `%%claude` away again and end its processes (a few tens of milliseconds)."""
    transformer.remove(shell)
    magics = shell.magics_manager.registry.pop(_NAME, None)
    if magics is None:
        return
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.configurables.remove(magics)
    magics.close()
