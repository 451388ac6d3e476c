"""Test the address that HAProxy listens on."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.supervise.listen_address import bindable, remove_socket, url_of
from entrepot.config.address import Address, SocketPath
from entrepot.config.errors import ConfigError
from tests.ports import free_port


def test_a_host_name_is_resolved_to_an_ip_address() -> None:
    """HAProxy gets the checked IP address, because it could resolve the name differently."""
    port = free_port()

    assert bindable(Address("localhost", port)) == f"127.0.0.1:{port}"
    assert bindable(Address("127.0.0.1", port)) == f"127.0.0.1:{port}"


def test_an_empty_host_means_all_ipv4_and_ipv6_addresses() -> None:
    """An empty host means all IPv4 and IPv6 addresses, as `:5000` does in docker distribution."""
    port = free_port()
    first, *second = bindable(Address("", port)).split(",")

    assert first == f"0.0.0.0:{port}"
    assert second in ([], [f"[::]:{port}"])


def test_a_port_that_is_in_use_is_refused() -> None:
    """A port in use is refused in one line with a remedy, before any program starts."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf":{port}: another program listens there; "):
            bindable(Address("127.0.0.1", port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    """An address that this machine does not have, or an unknown name, is refused.

    RFC 5737 reserves 192.0.2.0/24 for documentation, so no machine has such an address.
    """
    with pytest.raises(ConfigError, match="address of this machine"):
        bindable(Address(host, 5000))


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("", False, "http://localhost:5000"),
        ("0.0.0.0", True, "https://localhost:5000"),
        ("::1", False, "http://[::1]:5000"),
        ("10.0.0.1", False, "http://10.0.0.1:5000"),
    ],
)
def test_the_url_works_on_this_machine(host: str, *, tls: bool, url: str) -> None:
    """`serve` prints a URL that works on this machine, so that the operator can copy it."""
    assert url_of(Address(host, 5000), tls=tls) == url


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as made:
        yield Path(made)


def test_a_socket_that_an_earlier_process_left_is_removed(folder: Path) -> None:
    """A start removes the socket that a killed process left, as docker distribution does."""
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.bind(str(path))

    assert bindable(SocketPath(str(path))) == f"unix@{path}"
    assert not path.exists()


def test_a_socket_at_which_a_program_listens_is_refused(folder: Path) -> None:
    """A socket at which another program listens is refused, not taken over."""
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigError, match="another program listens there; stop that program"):
            bindable(SocketPath(str(path)))

        assert path.exists()


def test_a_path_with_another_file_or_no_folder_is_refused(folder: Path) -> None:
    """The path of a regular file, or a path in a missing folder, is refused.

    `remove_socket` does not remove the regular file.
    """
    file = folder / "a.sock"
    file.touch()
    with pytest.raises(ConfigError, match="a file that is not a socket; choose another path"):
        bindable(SocketPath(str(file)))
    with pytest.raises(ConfigError, match=r"no folder .*/b; create it"):
        bindable(SocketPath(str(folder / "b" / "a.sock")))

    remove_socket(SocketPath(str(file)))
    assert file.exists()


def test_a_socket_is_removed_at_the_stop(folder: Path) -> None:
    """When `serve` stops, it removes the public socket, which HAProxy leaves behind."""
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(path))
    remove_socket(SocketPath(str(path)))
    remove_socket(SocketPath(str(path)))
    remove_socket(Address("", 5000))

    assert not path.exists()
    assert url_of(SocketPath(str(path)), tls=True) == f"unix:{path}"
