"""Exceptions of a migration.

MigrationError
├── Interrupted           a signal asked the migration to end
└── MigrationStopped      the migration cannot continue; the text states the cause and the remedy
"""

from __future__ import annotations


class MigrationError(Exception):
    """`MigrationError` is the base class of the exceptions in the tree above."""


class Interrupted(MigrationError):  # noqa: N818 - the name states the fact
    """A signal asked the migration to end; the next run continues."""


class MigrationStopped(MigrationError):  # noqa: N818 - likewise
    """The migration cannot continue; the next run continues."""
