"""Show a MIME bundle as an output of the running cell."""

from collections.abc import Mapping

from IPython.display import DisplayHandle, display


def show(bundle: Mapping[str, str], handle: DisplayHandle | None = None) -> DisplayHandle:
    """Display a bundle, or show it in place of what an earlier display shows."""
    if handle is None:
        shown: DisplayHandle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        return shown
    handle.update(bundle, raw=True)  # type: ignore[no-untyped-call]
    return handle
