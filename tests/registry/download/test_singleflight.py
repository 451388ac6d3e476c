"""One download a blob: whoever joins, whatever breaks, whoever dies."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.errors import DigestMismatch
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest
from entrepot.registry.download.spoolfile import size_path
from entrepot.registry.download.writer import Task
from entrepot.registry.errors import Absent, Denied, Unavailable, Why
from entrepot.registry.server.fileslice import FileSlice
from tests.registry.benches import CONTENT, DIGEST, Bench, eventually, read, task, whole
from tests.registry.remotes import QUICK, FakeRemote


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty data directory."""
    return Bench(tmp_path)


def test_a_download_is_stored_recorded_and_leaves_no_spool(bench: Bench) -> None:
    """What a client got, the next finds on disk."""
    remote = FakeRemote(CONTENT)
    got = whole(bench.worker().join(task(remote)))
    eventually(lambda: bench.spooled == [])

    assert got == CONTENT
    assert bench.blobs.read(DIGEST) == CONTENT
    assert bench.index.used_bytes() >= len(CONTENT)
    assert bench.index.reservations() == []


def test_what_a_client_has_is_stored(bench: Bench) -> None:
    """With its last byte the blob is here: an outage the moment after is survived."""
    worker = bench.worker()
    for number in range(50):
        content = CONTENT + bytes([number])
        digest = Digest.of(content)
        whole(worker.join(task(FakeRemote(content), digest)))

        assert bench.blobs.stat(digest)


def test_clients_of_all_workers_share_one_fetch(bench: Bench) -> None:
    """Twelve clients over two workers: the upstream is asked once."""
    remote = FakeRemote(CONTENT, until=1)
    workers = [bench.worker(), bench.worker()]
    with ThreadPoolExecutor(12) as pool:
        futures = [
            pool.submit(lambda each: whole(each.join(task(remote))), workers[n % 2])
            for n in range(12)
        ]
        eventually(lambda: bool(remote.starts))
        remote.let(None)
        results = [future.result(20) for future in futures]

    assert results == [CONTENT] * 12
    assert remote.starts == [0]


def test_bytes_pass_on_before_the_download_ends(bench: Bench) -> None:
    """A client reads what has come in while the rest is still on its way."""
    remote = FakeRemote(CONTENT, until=1)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    first = next(body)
    remote.let(None)

    assert first == CONTENT[:1000]
    assert first + b"".join(body) == CONTENT


def test_a_reader_in_another_worker_reads_before_the_download_ends(bench: Bench) -> None:
    """So does a client of another worker."""
    remote = FakeRemote(CONTENT, until=1)
    bench.worker().join(task(remote))
    reader = bench.worker().join(task(remote))
    body = read(reader, 0, reader.size())
    first = next(body)
    remote.let(None)

    assert reader.collapsed
    assert first + b"".join(body) == CONTENT
    assert remote.starts == [0]


@pytest.mark.parametrize("same", [True, False], ids=["same worker", "another worker"])
def test_the_last_byte_of_a_wrong_blob_never_leaves(bench: Bench, same: bool) -> None:  # noqa: FBT001
    """Wrong bytes are cut short, nothing of them stays, and the next try succeeds."""
    wrong = FakeRemote(CONTENT[:-1] + b"!", until=5000)
    first = bench.worker()
    first.join(task(wrong))
    reader = (first if same else bench.worker()).join(task(wrong))
    got: list[bytes] = []
    with pytest.raises(DigestMismatch):
        got.extend(_letting(wrong, read(reader, 0, reader.size())))
    eventually(lambda: bench.spooled == [])

    assert len(b"".join(got)) < len(CONTENT)
    assert bench.blobs.stat(DIGEST) is None
    assert whole(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT


def _letting(remote: FakeRemote, body: Iterator[bytes]) -> Iterator[bytes]:
    yield next(body)
    remote.let(None)
    yield from body


def test_an_upstream_that_breaks_off_is_asked_for_the_rest(bench: Bench) -> None:
    """What is on disk is not asked for again."""
    remote = FakeRemote(CONTENT, breaks=[3000, 7000])

    assert whole(bench.worker().join(task(remote))) == CONTENT
    assert remote.starts == [0, 3000, 7000]


def test_an_upstream_without_ranges_sends_what_is_thrown_away(bench: Bench) -> None:
    """A whole answer to a range is skipped up to where the file ends."""
    remote = FakeRemote(CONTENT, breaks=[3000], takes_ranges=False)

    assert whole(bench.worker().join(task(remote))) == CONTENT


def test_an_upstream_that_stays_away_ends_the_pull_and_keeps_the_bytes(bench: Bench) -> None:
    """The connection is dropped; a later pull goes on where this one stopped."""
    away = [Unavailable("fake", "refused", Why.REFUSED) for _ in range(500)]
    remote = FakeRemote(CONTENT, breaks=[3000], until=1)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    next(body)
    remote.refusals.extend(away)
    remote.let(None)
    with pytest.raises(Unavailable):
        list(body)
    later = FakeRemote(CONTENT)

    assert whole(bench.worker().join(task(later))) == CONTENT
    assert later.starts == [3000]


def test_an_upstream_that_says_no_is_answered_at_once(bench: Bench) -> None:
    """No spool stays, and the error is the upstream's."""
    remote = FakeRemote(CONTENT, refusals=[Absent("fake", "no such blob")])
    with pytest.raises(Absent):
        bench.worker().join(task(remote))
    eventually(lambda: bench.spooled == [])

    assert remote.starts == [0]


def test_what_one_name_may_not_see_another_may(bench: Bench) -> None:
    """A refusal under one repository's name is not handed to another's client."""
    worker = bench.worker()
    gate = threading.Event()
    denied = FakeRemote(CONTENT)

    def refuse(_: int, __: int | None = None) -> Any:
        gate.wait(20)
        raise Denied("fake", "not under this name")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(
            worker.join, Task(DIGEST, (refuse,), "fake", "fake/private", limits=QUICK)
        )
        eventually(lambda: bool(bench.spooled))
        second = pool.submit(lambda: whole(worker.join(task(denied))))
        gate.set()

        assert second.result(20) == CONTENT
        assert isinstance(first.exception(20), Denied)


def test_without_room_a_blob_is_passed_on_unstored(bench: Bench) -> None:
    """A pull never fails for want of space, and the upstream is asked once."""
    bench.reservations = len(CONTENT) - 1
    remote = FakeRemote(CONTENT)

    assert whole(bench.worker().join(task(remote))) == CONTENT
    assert remote.starts == [0]
    assert bench.blobs.stat(DIGEST) is None
    eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])
    assert bench.spooled == []


def test_a_full_disk_wakes_the_cleaner_and_breaks_no_pull(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may fill it: what does not fit is passed on, and the next may find room."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert whole(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT
        eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])

    assert bench.woken == [len(CONTENT)]
    assert (bench.spooled, bench.index.reservations()) == ([], [])
    assert whole(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT
    assert bench.blobs.stat(DIGEST)


def test_a_wrong_blob_is_cut_short_without_room_too(bench: Bench) -> None:
    """What is not stored is verified all the same."""
    bench.reservations = 1
    with pytest.raises(DigestMismatch):
        whole(bench.worker().join(task(FakeRemote(CONTENT[:-1] + b"!"))))


def test_a_length_that_nobody_says_is_read_to_the_end(bench: Bench) -> None:
    """An upstream without Content-Length."""
    remote = FakeRemote(CONTENT, tells_size=False)
    reader = bench.worker().join(task(remote))

    assert reader.size() is None
    assert b"".join(read(reader, 0, None)) == CONTENT


def test_what_is_here_is_sent_at_once(bench: Bench) -> None:
    """Whoever comes late reads what the others waited for as one stretch of the file."""
    worker = bench.worker()
    remote = FakeRemote(CONTENT, until=1)
    reader = worker.join(task(remote))
    remote.let(None)
    eventually(lambda: bench.spooled == [])

    (stretch,) = reader.read(0, len(CONTENT))
    assert isinstance(stretch, FileSlice)
    assert (stretch.start, stretch.stop) == (0, len(CONTENT))


def test_the_upstream_has_shown_a_blob_before_anybody_learns_of_it(bench: Bench) -> None:
    """Whoever reads along under the same name has the writer's proof, and asks for none."""
    shown: list[bool] = []
    worker = bench.worker()

    def show() -> None:
        shown.append(size_path(worker.path(DIGEST)).exists())

    remote = FakeRemote(CONTENT, breaks=[3000])
    whole(worker.join(replace(task(remote), shown=show)))

    assert shown == [False]


def test_who_is_refused_was_shown_nothing(bench: Bench) -> None:
    """No answer is no proof."""
    shown: list[None] = []
    remote = FakeRemote(CONTENT, refusals=[Denied("fake", "not under this name")])
    with pytest.raises(Denied):
        bench.worker().join(replace(task(remote), shown=lambda: shown.append(None)))

    assert shown == []


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 4321), (9000, 10240), (10239, 10240)])
def test_a_range_of_what_comes_in(bench: Bench, start: int, stop: int) -> None:
    """A range is cut out of the growing file."""
    reader = bench.worker().join(task(FakeRemote(CONTENT)))

    assert b"".join(read(reader, start, stop)) == CONTENT[start:stop]


def test_an_empty_blob(bench: Bench) -> None:
    """Zero bytes are a blob as well."""
    empty = Digest.of(b"")
    reader = bench.worker().join(task(FakeRemote(b""), empty))

    assert whole(reader) == b""
    eventually(lambda: bench.blobs.stat(empty) is not None)


_DYING_WRITER = """
import os, sys, time
from pathlib import Path
from entrepot.datastore.locks import try_lock
path = Path(sys.argv[1])
held = try_lock(path)
os.pwrite(held.fd, sys.stdin.buffer.read(), 0)
path.with_name(path.name + ".size").write_text(sys.argv[2])
print("written", flush=True)
time.sleep(60)
"""


def test_a_reader_goes_on_where_a_killed_writer_stopped(bench: Bench) -> None:
    """The lock falls open with its holder; the range asked for starts at the file's length."""
    worker = bench.worker()
    path = worker.path(DIGEST)
    path.parent.mkdir(parents=True)
    writer = subprocess.Popen(
        [sys.executable, "-c", _DYING_WRITER, str(path), str(len(CONTENT))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdin
    assert writer.stdout
    writer.stdin.write(CONTENT[:4000])
    writer.stdin.close()
    writer.stdout.readline()
    remote = FakeRemote(CONTENT)
    reader = worker.join(task(remote))
    body = read(reader, 0, reader.size())
    first = next(body)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()

    assert first + b"".join(body) == CONTENT
    assert remote.starts == [4000]


def test_a_spool_file_that_lay_there_wrong_is_not_believed(bench: Bench) -> None:
    """A front that a crash left wrong ends the pull that was sent it, and is gone for the next."""
    worker = bench.worker()
    held = try_lock(worker.path(DIGEST))
    assert held
    os.pwrite(held.fd, b"\0" * 4000, 0)
    held.close()
    remote = FakeRemote(CONTENT, until=4001)
    body = read(worker.join(task(remote)), 0, len(CONTENT))
    with pytest.raises(DigestMismatch):
        list(_letting(remote, body))
    eventually(lambda: bench.spooled == [])

    assert whole(worker.join(task(FakeRemote(CONTENT)))) == CONTENT
