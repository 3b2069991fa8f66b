"""How a kernel finds the server of its machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_ccapi.bridge.runtime import NoServer, ServerAddress, find_server

OTHER = {"HOME": "/"}


def address(pid: int, **changes: str | None) -> ServerAddress:
    """The address of a server that is this process."""
    given = {"url": "ws://127.0.0.1:8888/base/", "secret": "s", "cafile": None, "root": "/data"}
    return ServerAddress(pid=pid, **{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def other() -> Iterator[int]:
    """The id of another process that runs."""
    waiting = [sys.executable, "-c", "input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_server_is_found_by_what_it_left(tmp_path: Path) -> None:
    here = address(os.getpid(), cafile="/etc/own.pem")
    path = here.save(tmp_path / "runtime")
    assert path.name == f"ccapi-server-{os.getpid()}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert find_server(OTHER, path.parent) == here
    here.remove(path.parent)
    assert list(path.parent.iterdir()) == []
    here.remove(path.parent)


def test_it_is_left_where_jupyter_keeps_such_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    here = address(os.getpid())
    assert here.save().parent == tmp_path
    assert find_server(OTHER) == here
    here.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_server_that_has_started_the_kernel_goes_first(tmp_path: Path, other: int) -> None:
    mine, theirs = address(os.getpid()), address(other)
    mine.save(tmp_path)
    later = theirs.save(tmp_path)
    now = later.stat().st_mtime
    os.utime(later, (now + 1, now + 1))
    assert find_server({"JPY_PARENT_PID": str(os.getpid())}, tmp_path) == mine
    # Nobody's process id: the one that was started last.
    for parent in ("", "0", "1", "no number"):
        assert find_server({"JPY_PARENT_PID": parent}, tmp_path) == theirs
    assert find_server({}, tmp_path) == theirs


def test_servers_that_are_gone_do_not_count_and_the_next_one_tidies_up(
    tmp_path: Path, gone: int
) -> None:
    left = address(gone).save(tmp_path)
    with pytest.raises(NoServer, match="start `jupyter lab`"):
        find_server({"JPY_PARENT_PID": str(gone)}, tmp_path)
    address(os.getpid()).save(tmp_path)
    assert not left.exists()


def test_another_process_with_the_same_number_is_not_the_server(tmp_path: Path) -> None:
    path = address(os.getpid()).save(tmp_path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    with pytest.raises(NoServer):
        find_server(OTHER, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', "\ufffd", "9" * 5000])
def test_files_that_make_no_sense_are_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "ccapi-server-1.json").write_text(text, "utf-8")
    with pytest.raises(NoServer):
        find_server(OTHER, tmp_path)
    wrong = {"url": "ws://host/", "secret": "s", "root": "/", "pid": 10**30}
    (tmp_path / "ccapi-server-1.json").write_text(json.dumps(wrong), "utf-8")
    with pytest.raises(NoServer):
        find_server(OTHER, tmp_path)


def test_without_any_folder_there_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="Unix socket"):
        find_server(OTHER, tmp_path / "none")


def test_the_address_of_a_conversation_follows_from_that_of_the_server() -> None:
    expected = "ws://127.0.0.1:8888/base/ws/cli/abc"
    assert address(1).relay_url("abc") == expected
    assert address(1, url="ws://127.0.0.1:8888/base").relay_url("abc") == expected


def test_the_secret_is_not_shown() -> None:
    assert "hidden" not in repr(address(1, secret="hidden"))
