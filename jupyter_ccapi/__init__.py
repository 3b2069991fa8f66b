"""Claude Code, wherever a notebook user works.

This module holds only ``Claude`` and the entry points that Jupyter and IPython look for, and is
cheap to import;
the rooms are ``claude`` (the core), ``openai`` (the wire), ``server``, ``notebook`` and ``demo``.
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .notebook.claude import Claude

__all__ = ["Claude", "__version__", "load_ipython_extension", "unload_ipython_extension"]


def __getattr__(name: str) -> Any:
    """``from jupyter_ccapi import Claude``: the notebook room is imported when it is needed."""
    if name == "Claude":
        from .notebook.claude import Claude

        return Claude
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter finds the server extension."""
    from .server.app import CCApiApp

    return [{"module": "jupyter_ccapi", "app": CCApiApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where JupyterLab finds the panel."""
    return [{"src": "labextension", "dest": "jupyter-ccapi"}]


def load_ipython_extension(ipython: Any) -> None:
    """Add ``%%claude`` to IPython: ``%load_ext jupyter_ccapi``."""
    from .notebook import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take ``%%claude`` away and end its processes: ``%unload_ext jupyter_ccapi``."""
    from .notebook import unload

    unload(ipython)
