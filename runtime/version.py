"""The version of the installed package."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Return the version, as in `pyproject.toml`; "0" if the package is not installed.

    PERF: reading it loads a parser of e-mail headers, which is 1 MB of memory of each process; a
    process that forks others reads it once for all.
    """
    from importlib import metadata  # noqa: PLC0415 - 20 ms

    try:
        return metadata.version("entrepot")
    except metadata.PackageNotFoundError:
        return "0"
