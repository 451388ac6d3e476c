"""Mail log lines of some levels (`log.hooks`). This module runs in `serve`, which gets all lines.

One thread sends the mails, so a mail server that hangs or refuses mails delays nothing else. A
failure of the mail server is logged once. The number of mails in a minute is limited. If lines were
not mailed, the next mail states their number.
"""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Final

from entrepot.appliance.supervise.log_entry import LogEntry, of_record
from entrepot.config.mail_hooks import LEVELS, MailHook
from entrepot.runtime.log_once import LogOnce

_log = logging.getLogger(__name__)

MOST_WAITING: Final = 100
"""At most this many lines wait for the mail server; if there are more, new lines are not mailed."""
MOST_MAILS: Final = 10
"""At most this many mails are sent in a minute."""

_PERIOD_S = 60.0
_STEP_S = 10.0  # The longest wait for one response of the mail server, in seconds.
_DELIVERY_S = 60.0  # The longest time for the delivery of a mail, in seconds.
_CLOSE_S = 3.0
_LONGEST_SUBJECT = 200  # The largest number of characters in a subject.
_LONGEST_VALUE = 4096
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_IMPLICIT_TLS = 465  # RFC 8314, 7.3, assigns this port to TLS.
# In the subject of a mail, the level `warn` has the name `warning`, as in docker distribution.
_NAMES: Final = {"warn": "warning"}


class LogMail:
    """A `LogMail` has a thread that mails the log lines that *hooks* select.

    *clock* is a monotonic clock in seconds.
    """

    def __init__(
        self,
        hooks: Sequence[MailHook],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hooks = hooks
        self._clock = clock
        self._levels = frozenset(level for hook in hooks for level in hook.levels)
        self._complaint = LogOnce(_log, "log lines not mailed", "log lines mailed again")
        self._changed = threading.Condition()
        self._waiting = deque[LogEntry]()
        self._left_out = 0
        self._sent = deque[float](maxlen=MOST_MAILS)  # The times at which the last mails were sent.
        self._deadline: float | None = None  # After `close`: when to drop the remaining lines.
        self._thread = threading.Thread(target=self._send_all, name="log mail", daemon=True)
        self._thread.start()

    def offer(self, entry: LogEntry) -> None:
        """Queue a line for mailing if a hook has one of its levels; never block."""
        if not self._levels & entry.levels:
            return
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._left_out += 1
                return
            self._waiting.append(entry)
            self._changed.notify()

    def close(self) -> None:
        """Mail the waiting lines for at most 3 s, and end the thread."""
        with self._changed:
            self._deadline = time.monotonic() + _CLOSE_S
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def _send_all(self) -> None:
        while (entry := self._next()) is not None:
            for hook in self._hooks:
                if levels := entry.levels & set(hook.levels):
                    self._send(hook, min(levels, key=LEVELS.index), entry)

    def _next(self) -> LogEntry | None:
        """Wait for a line and return it.

        After `close`, return None if no line is waiting or the deadline has passed.
        """
        with self._changed:
            while not self._waiting:
                if self._deadline is not None:
                    return None
                self._changed.wait()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return None
            return self._waiting.popleft()

    def _send(self, hook: MailHook, level: str, entry: LogEntry) -> None:
        now = self._clock()
        # A line of level fatal is always mailed. All programs exit after such a line, so no later
        # mail could report that it was not mailed.
        is_last = "fatal" in entry.levels
        if len(self._sent) == MOST_MAILS and now - self._sent[0] < _PERIOD_S and not is_last:
            self._leave_out()
            return
        self._sent.append(now)
        left_out = self._left_out
        try:
            deliver(hook, message(hook, level, entry, left_out))
        except Exception as error:  # noqa: BLE001 - the thread must continue after any response
            self._leave_out()
            self._complaint.failed(_without_password(error, hook))
        else:
            with self._changed:
                self._left_out -= left_out
            self._complaint.worked()

    def _leave_out(self) -> None:
        with self._changed:
            self._left_out += 1


class MailHandler(logging.Handler):
    """A logging handler that offers the log records of this process to *mail*.

    Records of this module are skipped, because they are about the mailing itself.
    """

    def __init__(self, mail: LogMail) -> None:
        super().__init__()
        self._mail = mail

    def emit(self, record: logging.LogRecord) -> None:
        """Offer one log record to *mail*."""
        if record.name != __name__:
            self._mail.offer(of_record(record, "serve"))


def message(hook: MailHook, level: str, entry: LogEntry, left_out: int) -> EmailMessage:
    """Return the mail about a log line, with the same subject as in docker distribution.

    The body has one line for the message and one for each field. *left_out* is the number of lines
    that were not mailed.
    """
    subject = f"[{_NAMES.get(level, level)}] {hook.host}: {entry.message}"
    subject = _one_line(subject, _LONGEST_SUBJECT)
    # A long subject would be folded into two lines, which some mail readers show with a space. So
    # an ASCII subject is not folded; RFC 5322, 2.1.1, allows 998 characters in a line.
    mail = EmailMessage(policy=SMTP.clone(max_line_length=998) if subject.isascii() else SMTP)
    mail["Subject"] = subject
    mail["From"] = hook.sender
    mail["To"] = ", ".join(hook.recipients)
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = make_msgid(domain="entrepot.invalid")
    fields = {"host": socket.gethostname(), **entry.fields}
    lines = [f"{name}: {_one_line(str(value), _LONGEST_VALUE)}" for name, value in fields.items()]
    rest = f"\n{left_out} log lines before this one were not mailed.\n" if left_out else ""
    body = f"{_one_line(entry.message, _LONGEST_VALUE)}\n\n" + "\n".join(lines) + f"\n{rest}"
    mail.set_content(body)
    return mail


def deliver(hook: MailHook, mail: EmailMessage) -> None:
    """Send a mail to the mail server of *hook*; this takes a minute at most.

    As in docker distribution, the certificate of a server that offers STARTTLS is verified, and
    without TLS the password is sent only to a server on this machine. If the option `insecure` is
    true, the certificate is not verified, and the password is sent even without TLS.

    Raises: OSError, SMTPException.
    """
    context = ssl.create_default_context()
    if hook.is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    is_tls = hook.port == _IMPLICIT_TLS
    connection = (
        smtplib.SMTP_SSL(timeout=_STEP_S, context=context)
        if is_tls
        else smtplib.SMTP(timeout=_STEP_S)
    )
    # If the constructor got a host, it would connect before the watchdog runs. So the host is set
    # here; with TLS, the certificate must be for this host.
    connection._host = hook.host  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    watchdog = threading.Timer(_DELIVERY_S, _abort, [connection])
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.connect(hook.host, hook.port)
        connection.ehlo_or_helo_if_needed()
        if not is_tls and connection.has_extn("starttls"):
            connection.starttls(context=context)
            connection.ehlo()
            is_tls = True
        if hook.username:
            _log_in(connection, hook, is_tls=is_tls)
        connection.send_message(mail, hook.sender, hook.recipients)
        with suppress(smtplib.SMTPException):
            connection.quit()
    finally:
        connection.close()
        watchdog.cancel()


def _log_in(connection: smtplib.SMTP, hook: MailHook, *, is_tls: bool) -> None:
    if not is_tls and not hook.is_insecure and hook.host not in _LOCAL:
        raise smtplib.SMTPNotSupportedError(
            "the server has no TLS, so no password is sent; insecure: true permits it"
        )
    connection.login(hook.username, hook.password)


def _abort(connection: smtplib.SMTP) -> None:
    with suppress(OSError, AttributeError):  # The SMTP client has no socket before the connection.
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _without_password(error: Exception, hook: MailHook) -> Exception:
    """Return *error* with the password masked; the server may have repeated the password."""
    text = str(error)
    if hook.password and hook.password in text:
        return smtplib.SMTPException(text.replace(hook.password, "***"))
    return error


def _one_line(text: str, most: int) -> str:
    printable = "".join(each if each.isprintable() else " " for each in text[:most])
    return printable.encode("utf-8", "replace").decode()
