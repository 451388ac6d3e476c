"""Runs a daemon in its own network namespace.

The daemon's bridges and firewall rules disappear with the namespace.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from tests.system.waiting import eventually

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # from Linux' sched.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # from netdevice(7)
_OWN = Path("/proc/self/ns/net")
_PIECE = 65536


def inside(places: Mapping[Path, str], argv: list[str]) -> list[str]:
    """Return a command line that bind-mounts *places* and runs *argv* without a network."""
    mounts = [shlex.join(["mount", "--bind", str(here), there]) for here, there in places.items()]
    script = " && ".join([*mounts, f"exec {shlex.join(argv)}"])
    return ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", script]


class Ways:
    """Forwards ports of loopback in the namespace of the process *pid* to the test's loopback."""

    def __init__(self, pid: int, ports: Mapping[int, int]) -> None:
        self._namespace = Path(f"/proc/{pid}/ns/net")
        self._ports = dict(ports)
        self._listeners: list[socket.socket] = []

    def __enter__(self) -> Self:
        eventually(self._is_another, what="the daemon has a network of its own")
        _within(self._namespace, _bring_loopback_up)
        for there, here in self._ports.items():
            self.open(there, here)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._listeners:
            with suppress(OSError):  # the shutdown wakes the thread that waits in accept
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def open(self, there: int, here: int) -> None:
        """Forward the port *there* of the daemon's namespace to the port *here* of this machine."""
        listener = _within(self._namespace, lambda: socket.create_server(("127.0.0.1", there)))
        self._listeners.append(listener)
        threading.Thread(target=_pass_on, args=(listener, here), daemon=True).start()

    def _is_another(self) -> bool:
        return self._namespace.readlink() != _OWN.readlink()


def _within(namespace: Path, act: Callable[[], T]) -> T:
    """Call *act* inside *namespace*; the sockets that *act* creates belong to this namespace."""
    done: list[T] = []

    def enter_and_act() -> None:
        descriptor = os.open(namespace, os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        # setns moves only the calling thread into the namespace
        entered = libc.setns(descriptor, _CLONE_NEWNET)
        os.close(descriptor)
        assert entered == 0, os.strerror(ctypes.get_errno())
        done.append(act())

    thread = threading.Thread(target=enter_and_act)
    thread.start()
    thread.join()
    return done[0]


def _bring_loopback_up() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        response = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        flags = struct.unpack("16sh22x", response)[1] | _IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags))


def _pass_on(listener: socket.socket, port: int) -> None:
    with suppress(OSError):  # the listener was closed
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, port), daemon=True).start()


def _serve(client: socket.socket, port: int) -> None:
    try:
        server = socket.create_connection(("127.0.0.1", port))
    except OSError:
        _reset(client)
        return
    other = threading.Thread(target=_pump, args=(server, client), daemon=True)
    other.start()
    _pump(client, server)
    other.join()
    client.close()
    server.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
