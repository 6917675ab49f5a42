"""One look at the machine: a figure without its machine says nothing."""

import os
import platform
import re
from pathlib import Path

from tests.bench.processes import Cpus


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _physical_cores() -> int:
    """Cores that are not hyper-threads of each other; siblings slow each other down."""
    siblings = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({each.read_text().strip() for each in siblings}) or 1


def facts(cpus: Cpus) -> dict[str, str]:
    """Name and value, in the order to show them."""
    cores = f"{len(os.sched_getaffinity(0))} usable, {_physical_cores()} physical"
    proxy, rest = sorted(cpus.proxy), sorted(cpus.rest)
    pinning = f"proxy on {proxy}, everything else on {rest}" if cpus.is_pinned else "none"
    load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    return {
        "CPU": _cpu_model(),
        "cores": cores,
        "pinning": pinning,
        "load before": load,
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
    }
