"""Refuse a start if the memory limit is too small for the programs.

Without a check of memory limits, the kernel would kill the programs one after another, and no
message would state the reason.
"""

from __future__ import annotations

from entrepot.config.errors import Problem

_MIB = 1024 * 1024
_PROGRAMS = 104 * _MIB  # all programs without the workers and HAProxy's cache, idle
_WORKER = 16 * _MIB  # one worker with some requests


def needed(workers: int, cache: int) -> int:
    """Return the least memory limit with which the appliance serves a few clients, in bytes.

    *cache* is the size of HAProxy's cache in bytes; HAProxy touches all of the cache at its start.
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
