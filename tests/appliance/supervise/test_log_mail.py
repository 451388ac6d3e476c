"""Tests of `LogMail`, which sends log lines by mail, with a mail server on loopback."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from entrepot.appliance.supervise import log_mail
from entrepot.appliance.supervise.log_entry import LogEntry
from entrepot.appliance.supervise.log_mail import LogMail
from entrepot.appliance.supervise.mailing import mailing
from entrepot.config.mail_hooks import MailHook
from tests.appliance.haproxy import eventually
from tests.certificates import Authority
from tests.smtp_server import SmtpServer


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    """Run a mail server without TLS."""
    with SmtpServer() as server:
        yield server


def _hook(server: SmtpServer, *levels: str) -> MailHook:
    sender, recipients = "registry@example.com", ("admin@example.com", "root")
    return MailHook(levels or ("error",), "127.0.0.1", server.port, sender, recipients)


def _entry(message: str = "disk full", *levels: str) -> LogEntry:
    return LogEntry(frozenset(levels or ("error",)), message, {"level": "error", "path": "/data"})


def _body(mail: EmailMessage) -> str:
    text: str = mail.get_content()
    return text.replace("\r\n", "\n")


def test_a_mail_has_the_message_and_the_fields_of_a_line(server: SmtpServer) -> None:
    """A log mail's subject has level, mail server and message, as in docker distribution."""
    mail = LogMail([_hook(server)])
    mail.offer(_entry())
    mail.close()

    (received,) = server.mails
    assert received["Subject"] == "[error] 127.0.0.1: disk full"
    assert received["From"] == "registry@example.com"
    assert received["To"] == "admin@example.com, root"
    body = _body(received)
    assert body.startswith("disk full\n\nhost: ")
    assert "\nlevel: error\npath: /data\n" in body
    assert server.commands[1:4] == [
        "mail FROM:<registry@example.com>",
        "rcpt TO:<admin@example.com>",
        "rcpt TO:<root>",
    ]


def test_a_long_subject_is_one_line(server: SmtpServer) -> None:
    """A log mail's subject is never folded, because some readers show the line break as a space."""
    mail = LogMail([_hook(server)])
    mail.offer(_entry("a program could not stay up, so all programs were ended, and more words"))
    mail.close()

    assert server.mails[0]["Subject"].startswith("[error] 127.0.0.1: a program could not")


def test_only_lines_of_the_levels_of_a_hook_are_mailed(server: SmtpServer) -> None:
    """Each hook mails the lines of its levels.

    The subject of a mail has the most severe level of the line.
    """
    mail = LogMail([_hook(server, "warn"), _hook(server, "error", "panic")])
    mail.offer(_entry("one", "info"))
    mail.offer(_entry("two", "warn"))
    mail.offer(_entry("three", "error", "panic"))
    mail.close()

    subjects = [each["Subject"] for each in server.mails]
    assert subjects == ["[warning] 127.0.0.1: two", "[panic] 127.0.0.1: three"]


def test_a_line_cannot_add_a_header_or_a_field(server: SmtpServer) -> None:
    """Line breaks of a logged message or value become spaces in a mail.

    Long values are truncated.
    """
    mail = LogMail([_hook(server)])
    entry = replace(
        _entry("bad\r\nBcc: all@example.com " + "é" * 500),
        fields={"uri": "a\nlevel: info", "long": "x" * 100_000, "odd": "\ud800"},
    )
    mail.offer(entry)
    mail.close()

    (received,) = server.mails
    assert received["Bcc"] is None
    assert len(received["Subject"]) == 200
    assert "\nuri: a level: info\n" in _body(received)
    assert len(_body(received)) < 10_000


def test_the_number_of_mails_in_a_minute_is_limited(server: SmtpServer) -> None:
    """At most `MOST_MAILS` log lines are mailed in a minute, and in addition a fatal line.

    All programs stop after a fatal line. The mail with the fatal line has the number of lines that
    were not mailed.
    """
    now = [0.0]
    mail = LogMail([_hook(server, "error")], clock=lambda: now[0])
    for number in range(log_mail.MOST_MAILS + 5):
        mail.offer(_entry(f"line {number}"))
    mail.offer(_entry("the last one", "error", "fatal"))
    eventually(lambda: len(server.mails) == log_mail.MOST_MAILS + 1)
    now[0] = 61.0
    mail.offer(_entry("later"))
    mail.close()

    *_, last, later = server.mails
    assert last["Subject"] == "[error] 127.0.0.1: the last one"
    assert "5 log lines before this one were not mailed" in _body(last)
    assert later["Subject"] == "[error] 127.0.0.1: later"
    assert "not mailed" not in _body(later)


def _is_mailed(server: SmtpServer, mail: LogMail) -> bool:
    mail.offer(_entry("again"))
    return bool(server.mails)


def test_a_server_that_hangs_delays_nothing(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the mail server hangs, lines wait in a bounded queue; the failure is logged once."""
    monkeypatch.setattr(log_mail, "_STEP_S", 0.1)
    monkeypatch.setattr(log_mail, "MOST_WAITING", 3)
    server.is_silent = True
    mail = LogMail([_hook(server)])
    for number in range(1000):
        mail.offer(_entry(f"line {number}"))
    assert len(mail._waiting) <= 3
    with caplog.at_level(logging.INFO):
        eventually(lambda: caplog.messages == ["log lines not mailed"])
        monkeypatch.setattr(log_mail, "_STEP_S", 10.0)
        server.is_silent = False
        eventually(lambda: _is_mailed(server, mail))
        mail.close()

    assert "log lines before this one were not mailed" in _body(server.mails[0])
    assert caplog.messages == ["log lines not mailed", "log lines mailed again"]


def test_nonsense_of_a_server_does_not_end_the_thread(
    server: SmtpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """If a mail fails for any reason, the next log line is still mailed."""
    server.refusal = "nonsense"
    mail = LogMail([_hook(server)])
    mail.offer(_entry())
    with caplog.at_level(logging.INFO):
        eventually(lambda: caplog.messages == ["log lines not mailed"])
        server.refusal = ""
        mail.offer(_entry("next"))
        mail.close()

    assert [each["Subject"] for each in server.mails] == ["[error] 127.0.0.1: next"]


def test_a_server_that_never_finishes_is_given_up(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log mail has a deadline for all answers of the mail server together."""
    monkeypatch.setattr(log_mail, "_DELIVERY_S", 0.2)
    server.is_silent = True

    with pytest.raises(OSError, match=r"Connection unexpectedly closed$"):
        log_mail.deliver(_hook(server), log_mail.message(_hook(server), "error", _entry(), 0))


def test_a_refusal_is_logged_without_the_password(
    server: SmtpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log of a refused mail hides the password, which a server may repeat in its answer."""
    hook = replace(_hook(server), username="ann", password="hunter2")
    mail = LogMail([hook])
    mail.offer(_entry())
    with caplog.at_level(logging.INFO):
        mail.close()

    (record,) = caplog.records
    assert "535" in str(vars(record)["error"])
    assert "hunter2" not in str(vars(record))
    assert server.logins == [("ann", "hunter2")]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return a certificate authority that this process does not trust yet."""
    return Authority(tmp_path)


def test_starttls_is_used_and_its_certificate_verified(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password is sent over TLS only, after the mail server's certificate was verified.

    With the setting `insecure` any certificate is accepted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("localhost"))
    with SmtpServer(context) as server:
        hook = replace(_hook(server), host="localhost", username="ann", password="right")
        mail = log_mail.message(hook, "error", _entry(), 0)
        with pytest.raises(ssl.SSLCertVerificationError):
            log_mail.deliver(hook, mail)
        assert server.logins == []

        log_mail.deliver(replace(hook, is_insecure=True), mail)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        log_mail.deliver(hook, mail)

    assert server.logins == [("ann", "right")] * 2
    assert len(server.mails) == 2


def test_no_password_is_sent_to_another_machine_without_tls(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TLS no password is sent to a mail server on another machine.

    Docker distribution has this rule too. The setting `insecure` disables the rule.
    """
    monkeypatch.setattr(log_mail, "_LOCAL", frozenset({"localhost"}))
    hook = replace(_hook(server), username="ann", password="right")
    mail = log_mail.message(hook, "error", _entry(), 0)
    with pytest.raises(OSError, match="the server has no TLS"):
        log_mail.deliver(hook, mail)
    assert server.logins == []

    log_mail.deliver(replace(hook, is_insecure=True), mail)
    assert server.logins == [("ann", "right")]


def test_records_of_serve_and_lines_of_programs_are_mailed(server: SmtpServer) -> None:
    """Log records of `serve` are mailed, and also the log lines that other programs print."""
    with mailing((_hook(server, "error"),), "text") as read:
        assert read is not None
        read("2026-01-02T03:04:05.006Z error registry: no index path=/data")
        read("Traceback (most recent call last):")
        logging.getLogger("entrepot.test").error("lost", extra={"program": "cleaner"})

    assert [each["Subject"] for each in server.mails] == [
        "[error] 127.0.0.1: no index",
        "[error] 127.0.0.1: lost",
    ]
    assert "log mail" not in [each.name for each in threading.enumerate()]


def test_without_a_hook_there_is_no_thread_and_no_reader() -> None:
    """Without a hook for mails no log line is parsed, and no thread runs."""
    with mailing((), "text") as read:
        assert read is None
        assert "log mail" not in [each.name for each in threading.enumerate()]
