"""The notebook room: `%%claude` in a kernel or in terminal IPython, and `Claude`, on the core.

`load` and `unload` are what `%load_ext jupyter_ccapi` and `%unload_ext jupyter_ccapi` call. Where
what happens: `magics` and `claude` are the two doors; a `desk` has the kernel's conversations, each
a `dialog` on the core's own thread (`core_thread`, `live`); `following` waits for a turn, `views`
draw it.
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
