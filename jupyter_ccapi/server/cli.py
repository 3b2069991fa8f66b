"""The commands ``jupyter ccapi`` and ``ccapi``."""

from .app import CCApiApp


def main() -> None:
    """Serve alone, or run a subcommand: see ``jupyter ccapi --help``."""
    CCApiApp.launch_instance()  # type: ignore[no-untyped-call]
