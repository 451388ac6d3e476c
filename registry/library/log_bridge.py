"""Hands what the registry says to the logger of the program that it runs in."""

from __future__ import annotations

import logging

from entrepot.runtime.logs import message_line

OURS = ("entrepot",)
"""The names of our own loggers; those below them are meant too."""


def hand_to(logger: logging.Logger) -> None:
    """Let *logger* have all that we say, from its level on, in this whole process.

    It gets the fields of a message behind it, as `key=value`. It may be given several.
    """
    for name in OURS:
        ours = logging.getLogger(name)
        ours.setLevel(logging.DEBUG)
        ours.propagate = False
        if not any(isinstance(each, _Hand) and each.logger is logger for each in ours.handlers):
            ours.addHandler(_Hand(logger))


class _Hand(logging.Handler):
    """Gives records on as if they were the other logger's own."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        if not self.logger.isEnabledFor(record.levelno):
            return
        told = logging.makeLogRecord(vars(record) | {"exc_info": None})
        told.msg, told.args = message_line(told), None
        told.exc_info = record.exc_info
        self.logger.handle(told)
