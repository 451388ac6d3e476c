"""Exceptions of a migration.

MigrationError
├── Interrupted           a signal has interrupted the migration
└── MigrationStopped      the migration cannot continue; the text states the cause and the remedy
"""

from __future__ import annotations


class MigrationError(Exception):
    """`MigrationError` is the base class of the exceptions in the tree above."""


class Interrupted(MigrationError):  # noqa: N818 - the name states the fact
    """A signal has interrupted the migration; the next run copies the rest."""


class MigrationStopped(MigrationError):  # noqa: N818 - likewise
    """The migration cannot continue; once the cause is removed, the next run copies the rest."""
