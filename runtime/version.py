"""Read the version of the installed package."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Return the version in `pyproject.toml`, or "0" if the package is not installed.

    PERF: to read the version, Python imports a parser of e-mail headers, which uses 1 MB of memory.
    A process that forks programs reads the version first, so that the programs use the cached
    result.
    """
    from importlib import metadata  # noqa: PLC0415 - 20 ms

    try:
        return metadata.version("entrepot")
    except metadata.PackageNotFoundError:
        return "0"
