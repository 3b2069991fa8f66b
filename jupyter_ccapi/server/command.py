"""What subcommands share: the server's configuration, and errors as sentences and exit codes."""

import asyncio
import sys

from jupyter_core.application import JupyterApp
from traitlets import TraitError

from .._version import __version__
from ..store import StoreError
from .app import CCApiApp


class WrongUse(Exception):
    """The command was given something that it cannot use; the message says what to give."""


class CannotBeDone(Exception):
    """What was asked cannot be done; the message says why."""


class Command(JupyterApp):
    """A command that reads the server's configuration. It exits with 1 if it cannot do what is
    asked, with 2 if it was asked wrongly.
    """

    version = __version__
    config_file_name = "jupyter_ccapi_config"
    classes = [CCApiApp]
    flags = {}

    def load_config_file(self, suppress_errors: bool = True) -> None:  # type: ignore[override]
        """Read what the server would read."""
        own = self.config_file_name
        for name in ("jupyter_server_config", own):
            self.config_file_name = name
            super().load_config_file(suppress_errors)

    def start(self) -> None:
        """Do what is asked, and say what went wrong."""
        super().start()
        try:
            self._refuse_unknown_options()
            self.check()
            asyncio.run(self.run())
        except WrongUse as error:
            self._fail(error, 2)
        except (CannotBeDone, StoreError, TraitError) as error:
            self._fail(error, 1)
        except KeyboardInterrupt:
            self.exit(130)  # as a shell says it

    def check(self) -> None:
        """Look at what was given, and ask for what is missing. Raises ``WrongUse``."""

    async def run(self) -> None:
        """Do what is asked. Raises ``WrongUse``, ``CannotBeDone`` and ``StoreError``."""
        raise NotImplementedError

    def _refuse_unknown_options(self) -> None:
        """A misspelt option that is merely warned of would be taken for one that counts."""
        classes = {one.__name__: one for one in self._classes_inc_parents()}
        asked = {**self.cli_config, "CCApiApp": self.config.get("CCApiApp", {})}
        for name, options in asked.items():
            if name not in classes:
                raise WrongUse(f"There is no option --{name}: see `{self.name} --help`.")
            for option in set(options) - set(classes[name].class_trait_names(config=True)):
                raise WrongUse(f"There is no option {name}.{option}: see `{self.name} --help-all`.")

    def _fail(self, error: Exception, status: int) -> None:
        print(error, file=sys.stderr)
        self.exit(status)
