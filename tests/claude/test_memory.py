"""How much memory may still be taken: machines and containers as small folder trees."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from jupyter_ccapi.claude.memory import Memory, proportional_size, read_memory

GIB = 1 << 30
MIB = 1 << 20
# 16 GiB, of which 8 may be taken.
MEMINFO = """\
MemTotal:       16777216 kB
MemFree:         1048576 kB
MemAvailable:    8388608 kB
HugePages_Total:       0
"""
MACHINE = Memory(16 * GIB, 8 * GIB)
# What version 1 says where there is no limit.
V1_NONE = 9223372036854771712

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine, with nothing about cgroups yet."""
    put(tmp_path, "proc/meminfo", MEMINFO)
    return tmp_path


def put(root: Path, name: str, content: str | int) -> None:
    """Write a file as the kernel would show it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def v2(
    root: Path,
    path: str,
    limit: str | int = "max",
    *,
    high: str | int = "max",
    current: int = 0,
    inactive: int = 0,
) -> None:
    """A cgroup of version 2 with a memory controller."""
    folder = f"sys/fs/cgroup/{path}"
    put(root, f"{folder}/memory.max", limit)
    put(root, f"{folder}/memory.high", high)
    put(root, f"{folder}/memory.current", current)
    put(root, f"{folder}/memory.stat", f"anon 4096\ninactive_file {inactive}\nactive_file 8192")


def v1(root: Path, path: str, limit: int, *, usage: int = 0, inactive: int = 0) -> None:
    """A cgroup of version 1, in the mount of the memory controller."""
    folder = f"sys/fs/cgroup/memory/{path}"
    put(root, f"{folder}/memory.limit_in_bytes", limit)
    put(root, f"{folder}/memory.usage_in_bytes", usage)
    # Its plain inactive_file leaves out the cgroups below.
    put(root, f"{folder}/memory.stat", f"inactive_file 4096\ntotal_inactive_file {inactive}")


def mine(root: Path, *lines: str) -> None:
    """The cgroups that this process is in."""
    put(root, "proc/self/cgroup", "\n".join(lines))


def test_without_cgroups_the_machine_is_the_limit(root: Path) -> None:
    assert read_memory(root) == MACHINE


def test_cgroups_that_have_no_limit_do_not_count(root: Path) -> None:
    mine(root, "0::/user.slice/mine")
    v2(root, "user.slice", current=9 * GIB)
    v2(root, "user.slice/mine", current=9 * GIB)
    assert read_memory(root) == MACHINE


def test_the_limit_of_the_own_cgroup(root: Path) -> None:
    mine(root, "0::/user.slice/pod:mine")
    v2(root, "user.slice")
    v2(root, "user.slice/pod:mine", 4 * GIB, current=GIB)
    v2(root, "user.slice/neighbour", GIB)
    assert read_memory(root) == Memory(4 * GIB, 3 * GIB)


def test_the_limit_of_a_cgroup_above(root: Path) -> None:
    mine(root, "0::/pod/box/mine")
    v2(root, "pod", 6 * GIB, current=5 * GIB)
    v2(root, "pod/box")
    v2(root, "pod/box/mine", "max", current=GIB)
    put(root, "memory.max", MIB)  # a file of that name above the mount says nothing
    assert read_memory(root) == Memory(6 * GIB, GIB)


def test_the_tightest_limit_and_the_least_available_may_be_on_different_levels(root: Path) -> None:
    mine(root, "0::/pod/mine")
    v2(root, "pod", 6 * GIB, current=5 * GIB)
    v2(root, "pod/mine", 4 * GIB, current=2 * GIB)
    assert read_memory(root) == Memory(4 * GIB, GIB)


def test_where_the_kernel_slows_a_container_down_is_a_limit_too(root: Path) -> None:
    mine(root, "0::/mine")
    v2(root, "mine", 4 * GIB, high=3 * GIB, current=GIB)
    assert read_memory(root) == Memory(3 * GIB, 2 * GIB)
    v2(root, "mine", 4 * GIB, high=5 * GIB, current=GIB)
    assert read_memory(root) == Memory(4 * GIB, 3 * GIB)
    v2(root, "mine", "max", high=2 * GIB, current=GIB)
    assert read_memory(root) == Memory(2 * GIB, GIB)


def test_page_cache_that_the_kernel_gives_back_is_available(root: Path) -> None:
    mine(root, "0::/mine")
    v2(root, "mine", 4 * GIB, current=3 * GIB, inactive=2 * GIB)
    assert read_memory(root) == Memory(4 * GIB, 3 * GIB)
    # The kernel counts both without a lock.
    v2(root, "mine", 4 * GIB, current=GIB, inactive=2 * GIB)
    assert read_memory(root) == Memory(4 * GIB, 4 * GIB)


def test_nothing_is_available_past_the_limit(root: Path) -> None:
    mine(root, "0::/mine")
    v2(root, "mine", GIB, current=2 * GIB)
    assert read_memory(root) == Memory(GIB, 0)
    v2(root, "mine", 0, current=2 * GIB)
    assert read_memory(root) == Memory(0, 0)


def test_a_machine_that_is_smaller_than_the_limit(root: Path) -> None:
    mine(root, "0::/mine")
    v2(root, "mine", 64 * GIB, current=GIB)
    assert read_memory(root) == MACHINE


def test_a_machine_that_has_less_left_than_the_cgroup(root: Path) -> None:
    mine(root, "0::/mine")
    v2(root, "mine", 12 * GIB, current=GIB)
    assert read_memory(root) == Memory(12 * GIB, MACHINE.available)


def test_a_container_sees_its_own_cgroup_as_the_root(root: Path) -> None:
    mine(root, "0::/")
    v2(root, "", 2 * GIB, current=GIB)
    assert read_memory(root) == Memory(2 * GIB, GIB)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/docker/0123abcd", id="a path of the host"),
        pytest.param("/../../memory", id="outside of the namespace"),
        pytest.param("/" + "x" * 5000, id="longer than a file name may be"),
    ],
)
def test_a_path_that_a_container_cannot_see(root: Path, path: str) -> None:
    mine(root, f"0::{path}")
    v2(root, "", 2 * GIB, current=GIB)
    # None of these is above this process: a container that was started in this one, and a folder
    # that is no cgroup at all.
    v2(root, "docker", MIB)
    v2(root, "../../memory", MIB)
    assert read_memory(root) == Memory(2 * GIB, GIB)


def test_version_1_with_a_limit(root: Path) -> None:
    mine(root, "5:cpu,cpuacct:/", "4:hugetlb,memory:/jobs/mine", "1:name=systemd:/jobs/mine")
    v1(root, "", V1_NONE, usage=12 * GIB)
    v1(root, "jobs", V1_NONE, usage=9 * GIB)
    v1(root, "jobs/mine", 4 * GIB, usage=3 * GIB, inactive=GIB)
    assert read_memory(root) == Memory(4 * GIB, 2 * GIB)


def test_version_1_without_a_limit(root: Path) -> None:
    mine(root, "4:memory:/jobs/mine")
    for path in ("", "jobs", "jobs/mine"):
        v1(root, path, V1_NONE, usage=12 * GIB)
    assert read_memory(root) == MACHINE


def test_version_1_in_a_container_that_cannot_see_its_path(root: Path) -> None:
    mine(root, "4:memory:/docker/0123abcd", "0::/")
    v1(root, "", 2 * GIB, usage=GIB)
    assert read_memory(root) == Memory(2 * GIB, GIB)


def test_version_1_reads_the_path_of_the_memory_controller(root: Path) -> None:
    mine(root, "5:cpu:/other", "4:memory:/mine", "1:name=memory:/other")
    v1(root, "mine", 4 * GIB)
    v1(root, "other", GIB)
    assert read_memory(root) == Memory(4 * GIB, 4 * GIB)


def test_a_hybrid_system_limits_in_either_version(root: Path) -> None:
    mine(root, "4:memory:/mine", "0::/system.slice/mine")
    v1(root, "mine", 4 * GIB, usage=GIB)
    v2(root, "unified/system.slice/mine")
    assert read_memory(root) == Memory(4 * GIB, 3 * GIB)
    v2(root, "unified/system.slice", 2 * GIB, current=GIB)
    assert read_memory(root) == Memory(2 * GIB, GIB)


@pytest.mark.parametrize("limit", ["", "garbage", "-1", "1.5", "9" * 5000])
def test_a_limit_that_makes_no_sense_is_none(root: Path, limit: str) -> None:
    mine(root, "0::/pod/mine")
    v2(root, "pod", 4 * GIB)
    v2(root, "pod/mine", limit)
    assert read_memory(root) == Memory(4 * GIB, 4 * GIB)


def test_a_limit_counts_though_its_usage_cannot_be_read(root: Path) -> None:
    mine(root, "0::/mine")
    put(root, "sys/fs/cgroup/mine/memory.max", 4 * GIB)
    (root / "sys/fs/cgroup/mine/memory.current").mkdir()
    (root / "sys/fs/cgroup/mine/memory.stat").write_bytes(b"\xff\xfe\ninactive_file\n\0 1\n")
    assert read_memory(root) == Memory(4 * GIB, 4 * GIB)


def test_what_is_inactive_is_not_given_away_where_it_makes_no_sense(root: Path) -> None:
    mine(root, "0::/mine")
    v2(root, "mine", 4 * GIB, current=GIB, inactive=-GIB)
    assert read_memory(root) == Memory(4 * GIB, 3 * GIB)


@pytest.mark.parametrize("content", [b"", b"\n", b"0\n", b"memory\n::\n4:memory", b"\xff\xfe\0:::"])
def test_a_list_of_cgroups_that_makes_no_sense(root: Path, content: bytes) -> None:
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_bytes(content)
    assert read_memory(root) == MACHINE


def test_files_that_cannot_be_read(root: Path) -> None:
    (root / "proc/self/cgroup").mkdir(parents=True)
    assert read_memory(root) == MACHINE
    (root / "proc/self/cgroup").rmdir()
    mine(root, "0::/mine")
    (root / "sys/fs/cgroup/mine/memory.max").mkdir(parents=True)
    assert read_memory(root) == MACHINE


@pytest.mark.parametrize("meminfo", [None, "garbage", "MemTotal: 4 kB", "MemAvailable: 4 kB"])
def test_without_a_useful_meminfo_psutil_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str | None
) -> None:
    told = SimpleNamespace(total=4 * GIB, available=3 * GIB, free=2 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: told)
    if meminfo is not None:
        put(tmp_path, "proc/meminfo", meminfo)
    assert read_memory(tmp_path) == Memory(4 * GIB, 3 * GIB)


def test_the_real_machine() -> None:
    memory = read_memory()
    assert 256 * MIB < memory.limit <= psutil.virtual_memory().total
    assert 0 < memory.available < memory.limit


def test_the_size_of_a_process() -> None:
    size = proportional_size(os.getpid())
    assert size is not None
    assert MIB < size < read_memory().limit


@linux
def test_what_two_processes_share_counts_half_in_each() -> None:
    # The child has all of its parent's memory until one of them writes to it. Both live until
    # stdin ends.
    program = f"""if True:
        import os
        shared = b"x" * {64 * MIB}
        if child := os.fork():
            print(child, flush=True)
        open(0).read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [parent.pid, int(parent.stdout.readline())]
        sizes = [proportional_size(pid) or 0 for pid in pids]
        resident = [psutil.Process(pid).memory_info().rss for pid in pids]
        parent.communicate()
    assert min(resident) > 64 * MIB
    assert min(sizes) > 32 * MIB
    assert max(sizes) < 60 * MIB


def test_where_shares_are_not_told_the_resident_size_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", refused)
    size = proportional_size(os.getpid())
    assert size is not None
    assert size > MIB
    # A system that measures no shares at all.
    monkeypatch.setattr(psutil.Process, "memory_full_info", psutil.Process.memory_info)
    assert proportional_size(os.getpid()) == pytest.approx(size, rel=0.2)


def test_a_process_that_nobody_may_look_at_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", refused)
    monkeypatch.setattr(psutil.Process, "memory_info", refused)
    assert proportional_size(os.getpid()) is None


def test_a_process_that_has_ended_has_no_size() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert proportional_size(process.pid) is None


@linux
def test_a_process_that_has_ended_and_was_not_waited_for_has_no_size() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert proportional_size(process.pid) is None
    process.wait()
