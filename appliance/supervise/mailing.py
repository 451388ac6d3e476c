"""Start and end the mailing of log lines.

The modules that send mail are imported only if a mail hook is configured.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from entrepot.appliance.supervise.output import Reader


@contextmanager
def mailing(hooks: Sequence[Any], formatter: str) -> Iterator[Reader | None]:
    """Mail the log records of this process during a `with` block.

    Yield a function that mails the log lines of the other programs. Yield None if *hooks* is empty.
    *hooks* are those of the setting `log.hooks`, and *formatter* is the format of the other
    programs' lines.
    """
    if not hooks:
        yield None
        return
    from entrepot.appliance.supervise.log_entry import PARSERS  # noqa: PLC0415 - 20 ms and 5 MB
    from entrepot.appliance.supervise.log_mail import LogMail, MailHandler  # noqa: PLC0415

    mail, parse = LogMail(hooks), PARSERS[formatter]
    handler = MailHandler(mail)

    def read(line: str) -> None:
        entry = parse(line)
        if entry is not None:
            mail.offer(entry)

    with closing(mail):
        logging.getLogger().addHandler(handler)
        try:
            yield read
        finally:
            logging.getLogger().removeHandler(handler)
