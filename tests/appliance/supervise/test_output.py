"""What the programs print, passed on."""

from __future__ import annotations

import io
from pathlib import Path

from entrepot.appliance.supervise.output import Output


def say(run: Path, name: str, text: bytes) -> None:
    """Print something, as supervisord writes what a program has printed."""
    with (run / f"{name}.out").open("wb", buffering=0) as pipe:
        pipe.write(text)


def test_whole_lines_are_passed_on_and_the_last_are_kept(tmp_path: Path) -> None:
    """Two programs never share a line; the part of a line waits for its end."""
    target = io.BytesIO()
    output = Output(tmp_path, {"logger": None, "cleaner": None}, target)
    say(tmp_path, "logger", b"first\nsec")
    say(tmp_path, "cleaner", b"whole\n")
    say(tmp_path, "logger", b"ond\n")
    output.close()

    assert sorted(target.getvalue().splitlines()) == [b"first", b"second", b"whole"]
    assert output.last("logger") == ["first", "second"]


def test_a_reader_gets_its_programs_lines(tmp_path: Path) -> None:
    """What HAProxy says is said again in our form, and not passed on."""
    target, heard = io.BytesIO(), list[str]()
    output = Output(tmp_path, {"haproxy": heard.append}, target)
    say(tmp_path, "haproxy", b"[WARNING] one\n[ALERT] \xff two\n")
    output.close()

    assert heard == ["[WARNING] one", "[ALERT] \ufffd two"]
    assert target.getvalue() == b""


def test_a_line_without_end_is_passed_on_in_pieces(tmp_path: Path) -> None:
    """Memory is bounded whatever a program prints."""
    target = io.BytesIO()
    output = Output(tmp_path, {"logger": None}, target)
    for _ in range(40):
        say(tmp_path, "logger", b"a" * 60_000)
    output.close()

    assert target.getvalue().count(b"a") >= 1024 * 1024


def test_nobody_who_reads_us_is_no_failure(tmp_path: Path) -> None:
    """`entrepot serve | head` goes on serving."""
    target = io.BytesIO()
    target.close()
    output = Output(tmp_path, {"logger": None}, target)
    say(tmp_path, "logger", b"said\n")
    output.close()

    assert output.last("logger") == ["said"]
