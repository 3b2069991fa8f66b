"""GET /health and /stats."""

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated

from .base import BaseHandler, verb


class HealthHandler(BaseHandler):
    """Liveness for a probe, and with ``?deep=1`` and the token what Claude Code is here."""

    # A probe must not keep an idle server alive.
    _track_activity = False

    @allow_unauthenticated
    async def get(self) -> None:
        """Say that the server lives; deeper: the CLI, its version, its login (503 if it cannot
        serve).
        """
        if self.get_query_argument("deep", "") in ("", "0", "false"):
            self.finish({"status": "ok"})
        else:
            await ensure_async(self._deep())

    head = get

    @verb("read")
    async def _deep(self) -> None:
        report = await self.gateway.health()
        self.set_status(200 if report["status"] == "ok" else 503)
        self.finish(report)


class StatsHandler(BaseHandler):
    """Requests, tokens, cost, latency and processes since the server started."""

    _track_activity = False

    @verb("read")
    async def get(self) -> None:
        """Report the figures."""
        self.finish(self.gateway.stats.report())


default_handlers = [(r"/health", HealthHandler), (r"/stats", StatsHandler)]
