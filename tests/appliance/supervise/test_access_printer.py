"""Test `AccessPrinter`: a slow reader of stdout does not make HAProxy wait."""

from __future__ import annotations

import fcntl
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.supervise import access_printer
from entrepot.appliance.supervise.access_formats import combined_lines
from entrepot.appliance.supervise.access_printer import AccessPrinter
from tests.appliance.haproxy import eventually

_LINE = b"a" * 99 + b"\n"
_SIZE = 65536


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a small pipe, which is the stdout of the printer."""
    reader, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) == _SIZE
    yield reader, writer
    os.close(reader)
    os.close(writer)


def _unchanged(lines: bytes) -> bytes:
    return lines


def test_all_lines_are_printed_in_order(tmp_path: Path) -> None:
    """If stdout is a file, which always has room, all access lines are printed in order."""
    path = tmp_path / "out"
    lines = [b"%d\n" % number for number in range(50_000)]
    with path.open("wb") as file:
        printer = AccessPrinter(file.fileno(), _unchanged)
        for start in range(0, len(lines), 1000):
            printer.offer(b"".join(lines[start : start + 1000]))
        printer.close()

    assert path.read_bytes() == b"".join(lines)


def test_a_slow_reader_gets_all_lines(pipe: tuple[int, int]) -> None:
    """The access printer waits for a slow reader of stdout, and drops no line."""
    reader, writer = pipe
    printer = AccessPrinter(writer, _unchanged)
    for _ in range(20):
        printer.offer(_LINE * 500)
    received = b""
    while len(received) < 20 * 500 * len(_LINE):
        received += os.read(reader, 4096)
    printer.close()

    assert received == _LINE * 500 * 20


def test_a_reader_that_stands_still_blocks_nothing(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If nothing reads stdout, access lines are dropped and counted, so that HAProxy can go on."""
    monkeypatch.setattr(access_printer, "QUEUE_BYTES", 100_000)
    monkeypatch.setattr(access_printer, "_CLOSE_S", 0.1)
    reader, writer = pipe
    counts = list[int]()
    printer = AccessPrinter(writer, _unchanged, counts.append)
    offered = 10_000
    for _ in range(offered // 100):
        printer.offer(_LINE * 100)
    eventually(lambda: select.select([reader], [], [], 0)[0])
    os.set_blocking(writer, False)
    assert os.write(writer, _LINE * 300) == 300 * len(_LINE)
    with caplog.at_level(logging.WARNING):
        printer.close()

    printed = os.read(reader, _SIZE).count(b"\n") - 300
    assert 0 < printed <= _SIZE // 4 // len(_LINE)
    assert sum(counts) == offered - printed
    assert {each.message for each in caplog.records} == {"access log lines were not printed"}


def test_lines_are_printed_again_after_a_pause(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the reader of stdout continues after a pause, later access lines are printed."""
    monkeypatch.setattr(access_printer, "QUEUE_BYTES", 20_000)
    reader, writer = pipe
    counts = list[int]()
    printer = AccessPrinter(writer, _unchanged, counts.append)
    for _ in range(100):
        printer.offer(_LINE * 100)
    os.set_blocking(reader, False)

    def receives() -> bool:
        printer.offer(b"later\n")
        try:
            return b"later\n" in os.read(reader, _SIZE)
        except BlockingIOError:
            return False

    eventually(receives)
    printer.close()

    assert sum(counts) > 0


def test_a_malformed_line_does_not_end_the_printing(tmp_path: Path) -> None:
    """Access lines that cannot be rendered are counted, and the later lines are printed."""
    counts = list[int]()
    with (tmp_path / "out").open("wb") as file:
        printer = AccessPrinter(file.fileno(), combined_lines, counts.append)
        printer.offer(b'{"start":179000x000123,"duration":0,"method":"GET"}\n')
        printer.offer(b'{"start":1790000000123,"duration":0,"method":"GET"}\n')
        printer.close()

    assert (tmp_path / "out").read_bytes().count(b"\n") == 1
    assert sum(counts) == 1


def test_a_stdout_that_accepts_nothing_ends_nothing() -> None:
    """If stdout cannot be written to, the access printer counts the lines and goes on."""
    counts = list[int]()
    read_only = os.open(os.devnull, os.O_RDONLY)
    printer = AccessPrinter(read_only, _unchanged, counts.append)
    printer.offer(_LINE * 3)
    printer.close()
    os.close(read_only)

    assert sum(counts) == 3
