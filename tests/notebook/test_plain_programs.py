"""`Claude` in a plain Python program, without IPython."""

import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.notebook.kernels import PATIENCE, claude_processes
from tests.notebook.test_python_api import CALLBACKS, IMPORTS, RUN, calls


def run_program(env: dict[str, str], folder: Path, code: str) -> str:
    """Run a plain Python program, without IPython; return what it prints. It is silent else."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", f"{IMPORTS}\n{code}"],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_plain_program_asks_without_ipython(
    model: OfflineModel, env: dict[str, str], folder: Path, home: Path
) -> None:
    """Again and again, blocking or awaiting; it ends silently, and so do its processes."""
    before = claude_processes(home)
    model.script(Reply("One."), Reply("Two."), Reply("Three."), Reply("Four."))
    printed = run_program(
        env,
        folder,
        "claude = Claude(mode='chat')\n"
        "print(claude.ask('1'))\n"
        "print(claude.ask('2'))\n"
        "async def main():\n"
        "    print(await claude.query('3'))\n"
        "    print(*await claude.batch(['4']))\n"
        "asyncio.run(main())\n"
        "import sys; print('ipywidgets' in sys.modules)",
    )
    assert printed.split() == ["One.", "Two.", "Three.", "Four.", "False"]
    assert claude_processes(home) == before


def test_a_plain_program_has_agents_pictures_and_callbacks(
    model: OfflineModel, env: dict[str, str], folder: Path
) -> None:
    """The kernel's tools are not there; where nobody can be asked, that is denied and said."""
    pytest.importorskip("PIL")
    target = str(folder / "a.txt")
    model.script(
        calls("mcp__maths__double", n=21),
        calls("Write", file_path=target, content="x"),
        Reply("So."),
        calls("Write", file_path=target, content="x"),
        Reply("Denied."),
    )
    printed = run_program(
        env,
        folder,
        f"{CALLBACKS}\n"
        "from PIL import Image\n"
        "print(claude.ask('Double.', images=[Image.new('RGB', (2, 2))]))\n"
        "print(sorted(set(threads.values())))\n"
        "print(Claude().ask('Write.'))\n",
    )
    assert printed == "in the cell\nSo.\n['MainThread']\nDenied.\n"
    assert model.main_requests[0].images == 1
    assert RUN not in model.main_requests[0].tools
    result = model.main_requests[-1].tool_results[0]
    assert result.error
    assert "Nobody can be asked here" in result.text


def test_a_plain_program_asks_on_its_terminal(
    model: OfflineModel, env: dict[str, str], folder: Path
) -> None:
    """As a cell does where there are no buttons."""
    pexpect = pytest.importorskip("pexpect")
    model.script(calls("Bash", command="touch made.txt"), Reply("Touched."))
    code = f"{IMPORTS}\nprint(Claude().ask('Touch.'))"
    child = pexpect.spawn(
        sys.executable, ["-c", code], env=env, cwd=str(folder), encoding="utf-8", timeout=PATIENCE
    )
    child.expect("touch made.txt")
    child.expect(r"\[y\]es once")
    assert not (folder / "made.txt").exists()
    child.sendline("y")
    child.expect("Touched.")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (folder / "made.txt").exists()


def test_a_forked_child_is_told_that_it_cannot(
    model: OfflineModel, env: dict[str, str], folder: Path
) -> None:
    """The thread and the processes are its parent's: it would wait for ever."""
    printed = run_program(
        env,
        folder,
        "import os\nclaude = Claude(mode='chat')\nprint(claude.ask('[[say One.]]'), flush=True)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n        claude.ask('Two.')\n"
        "    except Exception as error:\n        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\nprint(claude.ask('[[say Three.]]'))",
    )
    first, told, third = printed.splitlines()
    assert (first, third) == ("One.", "Three.")
    assert "fork" in told
