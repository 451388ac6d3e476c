"""A small mail server on loopback (RFC 5321), with STARTTLS and AUTH PLAIN."""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Self

from tests.serving import EndsAtOnce


class SmtpServer:
    """A mail server that keeps received mails in `mails`, and the client's commands in `commands`.

    With *context* it offers STARTTLS. With `is_silent` it accepts connections and sends nothing. It
    answers every MAIL command with `refusal`, if that is set.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.mails = list[EmailMessage]()
        self.commands = list[str]()
        self.logins = list[tuple[str, str]]()
        self.refusal = ""
        self.is_silent = False
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.owner = self
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(EndsAtOnce, socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    owner: SmtpServer


class _Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        self._owner = self.server.owner
        self._begin(self.request)
        if self._owner.is_silent:
            self._owner.released.wait()
            return
        self._answer("220 test")
        while line := self._file.readline():
            command = line.decode().strip()
            self._owner.commands.append(command)
            if not self._handle(command):
                return

    def finish(self) -> None:
        """Close the connection to the client, which may use TLS by now."""
        self._file.close()
        self._socket.close()

    def _begin(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def _answer(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\r\n")

    def _handle(self, command: str) -> bool:
        verb = command.partition(" ")[0].upper()
        if verb == "EHLO":
            offers = "250-STARTTLS\r\n" if self._offers_tls() else ""
            self._answer(f"250-test\r\n{offers}250 AUTH PLAIN")
        elif verb == "STARTTLS" and self._owner.context is not None:
            self._answer("220 go on")
            try:
                encrypted = self._owner.context.wrap_socket(self._socket, server_side=True)
            except ssl.SSLError:  # the client has rejected the certificate, as some tests expect
                return False
            self._begin(encrypted)
        elif verb == "AUTH":
            _, user, password = base64.b64decode(command.split(" ")[2]).decode().split("\0")
            self._owner.logins.append((user, password))
            self._answer("235 welcome" if password == "right" else f"535 wrong: {password}")
        elif verb == "MAIL" and self._owner.refusal:
            self._answer(self._owner.refusal)
        elif verb == "DATA":
            self._answer("354 go on")
            self._receive()
            self._answer("250 received")
        else:
            self._answer("221 bye" if verb == "QUIT" else "250 good")
        return verb != "QUIT"

    def _offers_tls(self) -> bool:
        return self._owner.context is not None and not isinstance(self._socket, ssl.SSLSocket)

    def _receive(self) -> None:
        content = b"".join(iter(self._file.readline, b".\r\n"))
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self._owner.mails.append(mail)
