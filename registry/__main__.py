"""Starts the workers: turns what the operator said into the parts of the application."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import config
from config.schema import Settings
from datastore import layout, logs
from datastore.accesslog import Event, write_event
from datastore.budget import Budget
from datastore.filesystem import Filesystem
from datastore.sqlite import SqliteIndex
from registry.app import Parts, create_app
from registry.room import CleanerBell, Limits, Room
from registry.workers import Serving, Workers

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to stop."""
