"""The server that ``jupyter ccapi`` runs: Jupyter's, with nothing on it but our routes."""

from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from traitlets import default


class StandaloneServer(ServerApp):
    """A Jupyter server without kernels, contents, terminals or a web interface. Its login,
    /metrics and /api/status remain.
    """

    name = "jupyter-ccapi"
    default_services = ("api", "auth", "security")  # type: ignore[assignment]
    port_default_value = 8080

    @default("ip")
    def _default_ip(self) -> str:
        return "127.0.0.1"

    @default("open_browser")
    def _default_open_browser(self) -> bool:
        return False

    @default("no_browser_open_file")
    def _default_no_browser_open_file(self) -> bool:
        return True

    @default("allow_unauthenticated_access")
    def _default_allow_unauthenticated_access(self) -> bool:
        return False

    @default("reraise_server_extension_failures")
    def _default_reraise_server_extension_failures(self) -> bool:
        # An option that is not valid stops the start; a server without its extension is of no use.
        return True

    @default("answer_yes")
    def _default_answer_yes(self) -> bool:
        # There is no unsaved work here that a second Ctrl-C should protect.
        return True

    def running_server_info(self, kernel_count: bool = True) -> str:
        """What is logged at the start: where the API is, and its key."""
        prefix = self.config.get("CCApiApp", {}).get("url_prefix", "")
        base = url_path_join(self.connection_url.split("?")[0], prefix, "v1")
        identity = self.identity_provider
        # A token that was made for this run must be shown to be known; one that was chosen is a
        # secret of its owner's.
        token = identity.token if identity.token_generated else "YOUR_TOKEN"
        return (
            f"Claude Code answers at {base}\n"
            f"Try: curl {base}/models -H 'Authorization: Bearer {token}'"
        )
