"""What the kernel accounts to a process: CPU time and resident memory. Read from outside, so that nothing that is
measured has to report on itself."""

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time, user and system, that these processes have used so far, over all their threads.

    It reads each process's CPU clock (clock_getcpuclockid(3)): the scheduler's own nanoseconds, where utime and
    stime of /proc/PID/stat come in ticks. Raises ProcessLookupError when one of them has ended.
    """
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
        except OSError as error:
            raise ProcessLookupError(f"process {pid} has ended while it was measured") from error
    return total


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory (RSS) of these processes; pages that two of them share count twice."""
    return sum(_field(Path(f"/proc/{pid}/smaps_rollup"), "Rss:") * 1024 for pid in pids)


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread or a child that has just ended
            for child in (thread / "children").read_text().split():
                found += tree(int(child))
    return found


def system_calls(report: str) -> dict[str, int]:
    """How many of each, from a report of `strace -c -U calls,name`."""
    return {name: int(count) for count, name in re.findall(r"^ *(\d+) (\w+)$", report, re.MULTILINE) if name != "total"}


def machine() -> dict[str, str | int]:
    """What a figure depends on and nobody chose."""
    models = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cpu": models[0] if models else os.uname().machine,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "memory_mib": _field(Path("/proc/meminfo"), "MemTotal:") // 1024,
        "tracked": _tracked(Path("/proc/sys/net/netfilter/nf_conntrack_count")),
    }


def _tracked(path: Path) -> str:
    """Whether packets go through the kernel's tracking of connections, as on a node of Kubernetes: it makes all proxies
    slower alike, and so moves their ratios towards 1."""
    return "connections" if path.exists() and int(path.read_text()) else "nothing"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _field(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in _lines(path) if line.startswith(name))
