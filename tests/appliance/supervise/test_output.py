"""Tests how the output of the programs is copied to stdout."""

from __future__ import annotations

import io
from pathlib import Path

from entrepot.appliance.supervise.output import Output, Reader


def write(run: Path, name: str, text: bytes) -> None:
    """Write *text* into the pipe of the program *name*, as supervisord does."""
    with (run / f"{name}.out").open("wb", buffering=0) as pipe:
        pipe.write(text)


def test_complete_lines_are_copied_and_the_last_ones_remembered(tmp_path: Path) -> None:
    """Complete lines of programs are copied, and the last ones are remembered.

    Two programs never share an output line; an incomplete line is copied when it is complete.
    """
    target = io.BytesIO()
    output = Output(tmp_path, {"logger": None, "cleaner": None}, target)
    write(tmp_path, "logger", b"first\nsec")
    write(tmp_path, "cleaner", b"whole\n")
    write(tmp_path, "logger", b"ond\n")
    output.close()

    assert sorted(target.getvalue().splitlines()) == [b"first", b"second", b"whole"]
    assert output.last("logger") == ["first", "second"]


def test_a_reader_receives_the_lines_of_its_program(tmp_path: Path) -> None:
    """HAProxy's messages go to a function that logs them in the appliance's format.

    Unlike the output of other programs, these messages are not copied to stdout.
    """
    target, received = io.BytesIO(), list[str]()
    output = Output(tmp_path, {"haproxy": received.append}, target)
    write(tmp_path, "haproxy", b"[WARNING] one\n[ALERT] \xff two\n")
    output.close()

    assert received == ["[WARNING] one", "[ALERT] \ufffd two"]
    assert target.getvalue() == b""


def test_a_line_without_end_is_copied_in_pieces(tmp_path: Path) -> None:
    """A line that never ends is copied in pieces, so the memory is bounded."""
    target = io.BytesIO()
    output = Output(tmp_path, {"logger": None}, target)
    for _ in range(40):
        write(tmp_path, "logger", b"a" * 60_000)
    output.close()

    assert target.getvalue().count(b"a") >= 1024 * 1024


def test_a_closed_stdout_is_not_a_failure(tmp_path: Path) -> None:
    """If stdout is closed, as in `entrepot serve | head`, the appliance goes on serving."""
    target = io.BytesIO()
    target.close()
    output = Output(tmp_path, {"logger": None}, target)
    write(tmp_path, "logger", b"said\n")
    output.close()

    assert output.last("logger") == ["said"]


def test_an_observer_receives_the_copied_lines(tmp_path: Path) -> None:
    """An observer gets the lines that are copied to stdout, but not those passed to a function."""
    target, received = io.BytesIO(), list[str]()
    readers: dict[str, Reader | None] = {"logger": None, "haproxy": lambda _: None}
    output = Output(tmp_path, readers, target, received.append)
    write(tmp_path, "logger", b"one\ntwo\n")
    write(tmp_path, "haproxy", b"[WARNING] three\n")
    output.close()

    assert received == ["one", "two"]
    assert target.getvalue() == b"one\ntwo\n"
