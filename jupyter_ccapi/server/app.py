"""The server extension: its options, its routes, its life from start to stop."""

from difflib import get_close_matches
from pathlib import Path

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from traitlets import TraitError, default

from jupyter_ccapi.bridge.runtime import ServerAddress

from .._version import __version__
from ..config import ServerOptions, data_folder
from .announcing import announce
from .gateway import Gateway
from .principal import identify_for_this_server
from .routes import default_handlers
from .standalone import StandaloneServer


class CCApiApp(ServerOptions, ExtensionApp):
    """Claude Code behind an OpenAI-compatible API, on the notebook server or alone."""

    name = "ccapi"
    version = __version__
    description = """Serve Claude Code over an OpenAI-compatible API.

    Alone it listens on http://127.0.0.1:8080, without kernels, contents or terminals; every
    request needs the token that is printed at the start (or the one in JUPYTER_TOKEN). On
    `jupyter lab` and `jupyter server` the same routes are there without this command.
    """
    examples = """
    jupyter ccapi                   # serve http://127.0.0.1:8080/v1
    jupyter ccapi --port 9000 --model sonnet
    jupyter ccapi demo              # try everything offline, with no account
    jupyter ccapi doctor            # is all there that it needs?
    jupyter ccapi key create ci     # a key for these routes alone, that stays
    """
    aliases = {
        "port": "ServerApp.port",
        "ip": "ServerApp.ip",
        "model": "CCApiApp.default_model",
        "config": "JupyterApp.config_file",
        "log-level": "Application.log_level",
    }
    subcommands = {
        "demo": ("jupyter_ccapi.demo.command.DemoApp", "Try everything offline, with no account."),
        "doctor": (
            "jupyter_ccapi.server.doctor.DoctorApp",
            "Say what is found, what is missing, and what to do about it.",
        ),
        "key": (
            "jupyter_ccapi.server.keys_command.KeyApp",
            "Make, list and revoke keys for the API.",
        ),
        "relay": (
            "jupyter_ccapi.server.relay_command.RelayApp",
            "Run Claude Code here for a session on a server.",
        ),
    }
    load_other_extensions = False
    serverapp_class = StandaloneServer

    @default("open_browser")
    def _default_open_browser(self) -> bool:
        return False

    gateway: Gateway
    _address: ServerAddress | None = None

    def initialize_settings(self) -> None:
        """Build the core; nothing is started before the first request."""
        self._refuse_unknown_options()
        assert self.serverapp is not None
        root = Path(self.serverapp.root_dir)
        self.gateway = Gateway(
            self,
            folder=data_folder(),
            root=root,
            activity=self.settings["last_activity_times"],
        )
        self.settings["ccapi_gateway"] = self.gateway
        self.settings["ccapi_verify_key"] = self.gateway.verify_key
        self.settings["ccapi_cors_origins"] = self.cors_origins
        self.settings["ccapi_identify"] = identify_for_this_server()
        # The panel runs in a page of JupyterLab's and finds the routes by this.
        page = self.settings.setdefault("page_config_data", {})
        page["ccapiUrlPrefix"] = self.url_prefix

    def _refuse_unknown_options(self) -> None:
        """An option that nobody reads was meant for something: say so, do not start without."""
        known = self.trait_names(config=True)
        for name in self.config.get("CCApiApp", {}):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                meant = f" Did you mean {close[0]}?" if close else ""
                raise TraitError(f"There is no option CCApiApp.{name}.{meant}")

    def initialize_handlers(self) -> None:
        """Mount the routes."""
        self.handlers.extend(
            (url_path_join(self.url_prefix, pattern) if self.url_prefix else pattern, handler)
            for pattern, handler in default_handlers
        )

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Tell kernels where it is. Alone, this server is there for nothing else: make ready what
        the first request needs.
        """
        self._address = announce(serverapp, self.url_prefix, self.gateway.kernel_secret)
        if isinstance(serverapp, StandaloneServer):
            self.gateway.preload()

    def current_activity(self) -> dict[str, int] | None:
        """Turns that run, so that a server is not shut down for idleness under them."""
        turns = self.gateway.turns if self._is_built else 0
        return {"turns": turns} if turns else None

    async def stop_extension(self) -> None:
        """End all Claude Code processes with the server."""
        if self._address is not None:
            self._address.remove()
        if self._is_built:
            await self.gateway.close()

    @property
    def _is_built(self) -> bool:
        """An extension that failed to load is asked to stop all the same."""
        return hasattr(self, "gateway")
