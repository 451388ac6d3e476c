"""Pass the log records of the registry on to the logger of the embedding program."""

from __future__ import annotations

import logging

from entrepot.runtime.logs import message_line

LOGGERS = ("entrepot",)
"""All loggers of the registry are descendants of these loggers."""


def forward_to(logger: logging.Logger) -> None:
    """Pass each log record of the registry to *logger* if its level is enabled for *logger*.

    The fields of a record are appended to its message as `key=value`. `forward_to` may be called
    for several loggers.
    """
    for name in LOGGERS:
        own = logging.getLogger(name)
        own.setLevel(logging.DEBUG)
        own.propagate = False
        if not any(isinstance(each, _Forwarder) and each.logger is logger for each in own.handlers):
            own.addHandler(_Forwarder(logger))


class _Forwarder(logging.Handler):
    """A `_Forwarder` passes log records on as if the receiving logger had created them."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        if not self.logger.isEnabledFor(record.levelno):
            return
        copy = logging.makeLogRecord(vars(record) | {"exc_info": None})
        copy.msg, copy.args = message_line(copy), None
        copy.exc_info = record.exc_info
        self.logger.handle(copy)
