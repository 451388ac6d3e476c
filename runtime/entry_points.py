"""Find middleware through the entry points of the installed Python packages."""

from __future__ import annotations

from typing import Any, Final

REGISTRY: Final = "entrepot.middleware.registry"
REPOSITORY: Final = "entrepot.middleware.repository"


def names(group: str) -> tuple[str, ...]:
    """Return the sorted names of the entry points of *group*, without importing them."""
    from importlib import metadata  # noqa: PLC0415 - 20 ms, used only with middleware

    return tuple(sorted({each.name for each in metadata.entry_points(group=group)}))


def load(group: str, name: str) -> Any:  # noqa: ANN401 - an object of another package
    """Import and return the object of an entry point.

    Raises: KeyError if the entry point does not exist; any exception that the import raises.
    """
    from importlib import metadata  # noqa: PLC0415 - as above

    return metadata.entry_points(group=group)[name].load()
