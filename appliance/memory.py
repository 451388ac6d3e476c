"""Check, when the appliance starts, whether the memory limit is large enough for its programs.

If the limit is too small, the kernel kills the programs one after another, and without this check
no message would state the reason.
"""

from __future__ import annotations

from entrepot.config.errors import Problem

_MIB = 1024 * 1024
_PROGRAMS = 104 * _MIB  # The memory of all idle programs except workers, without HAProxy's cache.
_WORKER = 16 * _MIB  # The memory of a worker that handles a few requests.


def needed(workers: int, cache: int) -> int:
    """Return the smallest memory limit, in bytes, with which the appliance can serve a few clients.

    *cache* is the size of HAProxy's cache in bytes. HAProxy allocates the whole cache when it
    starts.
    """
    return _PROGRAMS + workers * _WORKER + cache


def problems(workers: int, cache: int, limit: int) -> list[Problem]:
    """Return a problem if *limit*, the memory limit in bytes, is too small for *workers*."""
    least = needed(workers, cache)
    if limit >= least:
        return []
    message = f"{limit // _MIB} MiB are too little: {workers} workers need {least // _MIB} MiB"
    remedy = "raise the memory limit of the container, or lower http.workers"
    return [Problem("memory limit", message, remedy)]
