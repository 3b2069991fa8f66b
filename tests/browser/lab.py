"""A JupyterLab server under test: a process of its own, with a home and a folder of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TOKEN = "browser-test"
CHROMIUM = os.environ.get("CHROMIUM", "") or shutil.which("chromium") or ""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE = 60
"""Seconds that anything may take that is waited for."""


class Lab:
    """A running `jupyter lab` for the user whose home this is; its files are in `root`.

    That is a folder beside what is kept of conversations: of a home there are no snapshots.
    """

    def __init__(self, env: dict[str, str], home: Path, *, theme: str = "JupyterLab Light") -> None:
        self.root = home / "notebooks"
        self.root.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = home / "settings"
        settings.mkdir()
        (settings / "overrides.json").write_text(json.dumps(_overrides(theme)))
        self._log_file = home / "lab.log"
        self._log = self._log_file.open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *(f"--port={port}", "--ServerApp.port_retries=0"),
                f"--ServerApp.root_dir={self.root}",
                f"--IdentityProvider.token={TOKEN}",
                "--LabApp.expose_app_in_browser=True",
                f"--LabApp.app_settings_dir={settings}",
            ],
            env=env,
            cwd=self.root,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        request = urllib.request.Request(
            f"{self.url}/api/status", headers={"Authorization": f"token {TOKEN}"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                log = self._log_file.read_text()
                assert self._process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)

    def close(self) -> None:
        """End the server and its kernels."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()


def _overrides(theme: str) -> dict[str, Any]:
    return {
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
        },
        "@jupyterlab/apputils-extension:themes": {"theme": theme},
        "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    }
