"""``python -m jupyter_ccapi`` is ``jupyter ccapi``."""

from .server.cli import main

main()
