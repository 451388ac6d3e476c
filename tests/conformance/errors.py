"""The error of `make conformance`."""

from __future__ import annotations


class SuiteError(Exception):
    """The suite could not be found, built or run, or it left no results."""
