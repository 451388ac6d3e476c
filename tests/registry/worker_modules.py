"""List the modules that a worker loads for a configuration without optional features."""

from __future__ import annotations

import subprocess
import sys
from functools import cache


@cache
def worker_modules() -> frozenset[str]:
    """Return the names of all modules that are loaded when a worker's main module is imported.

    Each test process caches this result, because the import takes 0.6 s.
    """
    program = "import sys, entrepot.registry.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found = frozenset(done.stdout.split())
    assert "entrepot.registry.app" in found
    return found
