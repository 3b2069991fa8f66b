"""A server extension that has each event of a session say when the session's log took it up, in
seconds of the monotonic clock, which all processes of a machine share.
"""

import time
from collections.abc import Mapping
from typing import Any

from jupyter_ccapi.bridge.log import Entry, Log


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    append = Log.append

    def noted(self: Log, event: Mapping[str, Any], mark: str = "") -> Entry:
        return append(self, {**event, "appended": time.monotonic()}, mark)

    Log.append = noted  # type: ignore[method-assign]
