"""The offline model: a small Anthropic-Messages server on loopback, with no intelligence.

The real Claude Code CLI does everything against it, with no account and no network: it is what
`jupyter ccapi demo` answers with, and what the tests assert on. Run it alone with
`python -m jupyter_ccapi.demo`; steer it by directives in the user's text
(`jupyter_ccapi.demo.directives`) or from Python by `OfflineModel.script`.
"""

from jupyter_ccapi.demo.log import LoggedRequest
from jupyter_ccapi.demo.replies import ApiError, Reply, ToolCall
from jupyter_ccapi.demo.server import OfflineModel

__all__ = ["ApiError", "LoggedRequest", "OfflineModel", "Reply", "ToolCall"]
