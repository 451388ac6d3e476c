"""Describe the machine of the benchmark, and the versions of all programs and libraries."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from bench import plain_user

_GIB = 2**30
_PROGRAMS = {
    "docker-registry": ("docker-registry", "--version"),
    "nginx": ("nginx", "-v"),
    "HAProxy": ("haproxy", "-v"),
    "wrk": ("wrk", "-v"),
    "OpenSSL": ("openssl", "version"),
}
_LIBRARIES = ("gunicorn", "falcon", "urllib3", "supervisor")


def described() -> dict[str, str]:
    """Return the processor, memory, operating system, Python version and user of this run."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{pages / _GIB:.0f} GiB",
        "system": f"Linux {platform.release()}, {_distribution()}",
        "python": platform.python_version(),
        "run as": plain_user.described(),
    }


def versions() -> dict[str, str]:
    """Return the version of each program and library."""
    programs = {name: _version(words) for name, words in _PROGRAMS.items()}
    return programs | {name: version(name) for name in _LIBRARIES}


def version_in(text: str) -> str:
    """Return the first version number in *text*."""
    found = re.search(r"\d+\.\d+(\.\d+)?[\w.+~-]*", text)
    return found[0] if found else "unknown"


def _version(words: Sequence[str]) -> str:
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
        return version_in(done.stdout + done.stderr)
    return "not installed"


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _distribution() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return "unknown"
