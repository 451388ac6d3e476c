"""All requests for a blob, in all workers, share one download.

The download survives a failed request and the death of its writer.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.errors import DigestMismatch, StorageBroken
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest
from entrepot.registry.download import singleflight, spoolfile
from entrepot.registry.download.singleflight import Reader
from entrepot.registry.download.spoolfile import size_path
from entrepot.registry.download.writer import Download, Task
from entrepot.registry.errors import Absent, Denied, Unavailable, Why
from entrepot.registry.server.fileslice import FileSlice
from tests.registry.benches import CONTENT, DIGEST, Bench, eventually, read, read_all, task
from tests.registry.remotes import QUICK, FakeBody, FakeRemote


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty data directory."""
    return Bench(tmp_path)


def test_a_download_is_stored_and_recorded_and_leaves_no_spool_file(bench: Bench) -> None:
    """After a download, the blob is stored and has a row in the index; no spool file remains."""
    remote = FakeRemote(CONTENT)
    received = read_all(bench.worker().join(task(remote)))
    eventually(lambda: bench.spooled == [])

    assert received == CONTENT
    assert bench.blobs.read(DIGEST) == CONTENT
    assert bench.index.reservations.used_bytes() >= len(CONTENT)
    assert bench.index.reservations.all() == []


def test_a_blob_is_stored_before_its_last_byte_is_sent(bench: Bench) -> None:
    """When a client gets the last byte of a blob, the blob is already stored.

    So the next pull needs no request to the upstream.
    """
    worker = bench.worker()
    for number in range(50):
        content = CONTENT + bytes([number])
        digest = Digest.of(content)
        read_all(worker.join(task(FakeRemote(content), digest)))

        assert bench.blobs.stat(digest)


def test_clients_of_all_workers_share_one_download(bench: Bench) -> None:
    """If twelve clients of two workers request a blob, the upstream gets one request."""
    remote = FakeRemote(CONTENT, until=1)
    workers = [bench.worker(), bench.worker()]
    with ThreadPoolExecutor(12) as pool:
        futures = [
            pool.submit(lambda each: read_all(each.join(task(remote))), workers[n % 2])
            for n in range(12)
        ]
        eventually(lambda: bool(remote.starts))
        remote.let(None)
        results = [future.result(20) for future in futures]

    assert results == [CONTENT] * 12
    assert remote.starts == [0]


def test_bytes_are_sent_before_the_download_ends(bench: Bench) -> None:
    """A client receives the first bytes of a blob while the rest is still being downloaded."""
    remote = FakeRemote(CONTENT, until=1)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    first = next(body)
    remote.let(None)

    assert first == CONTENT[:1000]
    assert first + b"".join(body) == CONTENT


def _noting_threads(remote: FakeRemote, threads: list[threading.Thread]) -> Task:
    """Return a task that downloads a blob; *threads* gets each thread that sends a request."""

    def fetch(start: int, stop: int | None = None) -> AbstractContextManager[FakeBody]:
        threads.append(threading.current_thread())
        return remote.fetch(start, stop)

    return replace(task(remote), fetches=(fetch,))


def test_the_thread_of_the_first_client_sends_the_request(bench: Bench) -> None:
    """The thread of the client that begins a download sends the first request to the upstream.

    The request is not delayed until another thread has woken up. The download's own thread reads
    the body of the response.
    """
    threads: list[threading.Thread] = []
    remote = FakeRemote(CONTENT)
    reader = bench.worker().join(_noting_threads(remote, threads))

    assert reader.size() == len(CONTENT)
    assert read_all(reader) == CONTENT
    assert threads == [threading.current_thread()]
    assert remote.starts == [0]


def test_the_first_client_does_not_wait_for_the_announcement_of_its_download(bench: Bench) -> None:
    """The client that begins a download gets the blob's size before other workers can read it.

    So the client's response can begin before the download has written the files for other workers.
    """
    is_known = threading.Event()
    order: list[str] = []

    def shown() -> None:
        is_known.wait(20)
        order.append("announced")

    reader = bench.worker().join(replace(task(FakeRemote(CONTENT)), shown=shown))
    order.append(f"size {reader.size()}")
    is_known.set()

    assert read_all(reader) == CONTENT
    assert reader.is_confirmed
    assert order == [f"size {len(CONTENT)}", "announced"]


def test_after_a_failed_first_request_the_download_goes_on_alone(bench: Bench) -> None:
    """If the request from the client's thread fails, the download's own thread repeats it."""
    threads: list[threading.Thread] = []
    remote = FakeRemote(CONTENT, refusals=[Unavailable("fake", "busy", Why.REFUSED)])
    reader = bench.worker().join(_noting_threads(remote, threads))

    assert read_all(reader) == CONTENT
    assert threads[0] is threading.current_thread()
    assert len(threads) == 2
    assert threads[1] is not threads[0]


def test_a_download_goes_on_if_its_first_client_never_reads(bench: Bench) -> None:
    """If the first client disconnects before its response begins, the download continues."""
    bench.worker().join(task(FakeRemote(CONTENT)))

    eventually(lambda: bench.blobs.stat(DIGEST) is not None)


def test_the_response_is_closed_if_the_download_cannot_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the spool file cannot be written, the worker closes the upstream's response.

    The thread that serves the first client has opened the response. The download's own thread,
    which would read and close the response, fails.
    """

    def fail(_: Download, __: str) -> Iterator[bytes]:
        raise StorageBroken("no disk")

    monkeypatch.setattr(Download, "_missing", fail)
    remote = FakeRemote(CONTENT)
    bench.worker().join(task(remote))

    eventually(lambda: remote.starts == [0] and remote.held == 0)


def test_the_first_bytes_are_sent_as_soon_as_they_arrive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client gets the first bytes at once; the reader collects later bytes into larger pieces."""
    waits: list[float] = []
    wait = Reader._wait

    def noted(reader: Reader, seconds: float) -> None:
        waits.append(seconds)
        wait(reader, seconds)

    monkeypatch.setattr(Reader, "_wait", noted)
    remote = FakeRemote(CONTENT, until=1)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    next(body)
    waits_before = list(waits)
    remote.let(None)
    rest = b"".join(body)

    assert singleflight._MORE_WITHIN_S not in waits_before
    assert len(rest) == len(CONTENT) - 1000


def test_a_reader_waits_for_the_writer_before_it_looks_for_the_link(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader in the writer's process waits until the writer has linked the blob.

    The writer creates the link a moment after it has stored the blob. A reader that looked for the
    link in that moment would find none and would create it a second time.
    """
    order: list[str] = []
    wait_done = Download.wait_done

    def noted(download: Download, within: float | None = None) -> None:
        wait_done(download)
        order.append(f"waited {within}")

    monkeypatch.setattr(Download, "wait_done", noted)
    reader = bench.worker().join(
        replace(task(FakeRemote(CONTENT)), landed=lambda: order.append("linked by the writer"))
    )
    reader.on_stored = lambda: order.append("looked for by the reader")

    assert read_all(reader) == CONTENT
    assert order == ["linked by the writer", "waited 1.0", "looked for by the reader"]


def test_a_reader_in_another_worker_reads_before_the_download_ends(bench: Bench) -> None:
    """A reader in another worker follows the growing spool file while the download runs."""
    remote = FakeRemote(CONTENT, until=1)
    bench.worker().join(task(remote))
    reader = bench.worker().join(task(remote))
    body = read(reader, 0, reader.size())
    first = next(body)
    remote.let(None)

    assert reader.collapsed
    assert first + b"".join(body) == CONTENT
    assert remote.starts == [0]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
def test_another_worker_knows_the_size_before_the_download_ends(
    bench: Bench,
    announced: bool,  # noqa: FBT001
) -> None:
    """If the upstream stated a blob's size, other workers can read the size during the download."""
    remote = FakeRemote(CONTENT, until=1, tells_size=announced)
    bench.worker().join(task(remote))
    reader = bench.worker().join(task(remote))
    size = reader.size()
    remote.let(None)

    assert size == (len(CONTENT) if announced else None)
    assert b"".join(read(reader, 0, None)) == CONTENT


@pytest.mark.parametrize("same", [True, False], ids=["same worker", "another worker"])
def test_the_last_byte_of_a_wrong_blob_is_never_sent(bench: Bench, same: bool) -> None:  # noqa: FBT001
    """If a blob has a wrong digest, the response breaks off before the last byte.

    The blob is not stored, and the next pull succeeds.
    """
    wrong = FakeRemote(CONTENT[:-1] + b"!", until=5000)
    first = bench.worker()
    first.join(task(wrong))
    reader = (first if same else bench.worker()).join(task(wrong))
    received: list[bytes] = []
    with pytest.raises(DigestMismatch):
        received.extend(_letting(wrong, read(reader, 0, reader.size())))
    eventually(lambda: bench.spooled == [])

    assert len(b"".join(received)) < len(CONTENT)
    assert bench.blobs.stat(DIGEST) is None
    assert read_all(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT


def test_a_failed_download_ends_after_its_flush(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed download closes its spool file only after a flush of the file has ended.

    The flush runs in the background. If the file were closed earlier, another file could get the
    same descriptor number and be flushed instead.
    """
    reported: list[bool] = []

    def flush(_: int) -> None:
        # a download that did not wait for the flush would report its failure within 0.1 s
        threading.Event().wait(0.1)
        reported.append(bool(bench.events))

    monkeypatch.setattr(spoolfile, "_STEP", 1)
    monkeypatch.setattr(os, "fdatasync", flush)
    bench.worker().join(task(FakeRemote(CONTENT[:-1] + b"!")))
    eventually(lambda: [event["outcome"] for event in bench.events] == ["mismatch"])

    assert reported
    assert not any(reported)


@pytest.mark.parametrize("failed_flush", [1, 2])
def test_a_blob_is_not_stored_after_a_flush_that_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failed_flush: int
) -> None:
    """If a flush in the background fails, the blob is not stored, even if later flushes succeed.

    Linux reports an error of the disk only once, so the flush at the commit could succeed. The
    worker passes the blob through, so the pull succeeds.
    """
    flushes = itertools.count(1)

    def flush(_: int) -> None:
        if next(flushes) == failed_flush:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(spoolfile, "_STEP", 1)
    monkeypatch.setattr(os, "fdatasync", flush)
    remote = FakeRemote(CONTENT, breaks=[3000])
    assert read_all(bench.worker().join(task(remote))) == CONTENT
    eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])

    assert bench.blobs.stat(DIGEST) is None
    assert (bench.spooled, bench.index.reservations.all()) == ([], [])
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    assert read_all(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT


def _letting(remote: FakeRemote, body: Iterator[bytes]) -> Iterator[bytes]:
    yield next(body)
    remote.let(None)
    yield from body


def test_a_broken_download_is_resumed_by_range(bench: Bench) -> None:
    """If the connection to the upstream breaks, the download requests only the missing bytes."""
    remote = FakeRemote(CONTENT, breaks=[3000, 7000])

    assert read_all(bench.worker().join(task(remote))) == CONTENT
    assert remote.starts == [0, 3000, 7000]


def test_a_full_response_to_a_range_is_skipped_to_the_right_offset(bench: Bench) -> None:
    """If an upstream ignores a range, the download drops the bytes that are already on the disk."""
    remote = FakeRemote(CONTENT, breaks=[3000], takes_ranges=False)

    assert read_all(bench.worker().join(task(remote))) == CONTENT


def test_a_failed_download_keeps_its_bytes_for_the_next_pull(bench: Bench) -> None:
    """After a failed download, the next pull requests only the bytes that are not on the disk."""
    away = [Unavailable("fake", "refused", Why.REFUSED) for _ in range(500)]
    remote = FakeRemote(CONTENT, breaks=[3000], until=1)
    body = read(bench.worker().join(task(remote)), 0, len(CONTENT))
    next(body)
    remote.refusals.extend(away)
    remote.let(None)
    with pytest.raises(Unavailable):
        list(body)
    later = FakeRemote(CONTENT)

    assert read_all(bench.worker().join(task(later))) == CONTENT
    assert later.starts == [3000]


def test_an_upstreams_404_is_raised_at_once(bench: Bench) -> None:
    """If an upstream sends 404 for a blob, the request fails at once with the upstream's error.

    No spool file remains.
    """
    remote = FakeRemote(CONTENT, refusals=[Absent("fake", "no such blob")])
    with pytest.raises(Absent):
        bench.worker().join(task(remote))
    eventually(lambda: bench.spooled == [])

    assert remote.starts == [0]


def test_a_refusal_for_one_repository_does_not_fail_another(bench: Bench) -> None:
    """If an upstream denies a blob to one repository, another repository's pull continues.

    Both pulls share one download of the blob.
    """
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
        second = pool.submit(lambda: read_all(worker.join(task(denied))))
        gate.set()

        assert second.result(20) == CONTENT
        assert isinstance(first.exception(20), Denied)


def test_without_space_a_blob_is_sent_and_not_stored(bench: Bench) -> None:
    """Without disk space for a blob, the worker passes it through with one upstream request."""
    bench.reservations = len(CONTENT) - 1
    remote = FakeRemote(CONTENT)

    assert read_all(bench.worker().join(task(remote))) == CONTENT
    assert remote.starts == [0]
    assert bench.blobs.stat(DIGEST) is None
    eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])
    assert bench.spooled == []


def test_a_full_disk_wakes_the_cleaner_and_fails_no_pull(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If other programs have filled the disk, a download wakes the cleaner and the pull succeeds.

    The worker passes the blob through. The next download is stored if the disk has free space by
    then.
    """

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert read_all(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT
        eventually(lambda: [event["outcome"] for event in bench.events] == ["unstored"])

    assert bench.woken == [len(CONTENT)]
    assert (bench.spooled, bench.index.reservations.all()) == ([], [])
    assert read_all(bench.worker().join(task(FakeRemote(CONTENT)))) == CONTENT
    assert bench.blobs.stat(DIGEST)


def test_a_wrong_blob_breaks_off_without_space_too(bench: Bench) -> None:
    """If a worker passes through a blob with a wrong digest, the response breaks off."""
    bench.reservations = 1
    with pytest.raises(DigestMismatch):
        read_all(bench.worker().join(task(FakeRemote(CONTENT[:-1] + b"!"))))


def test_a_blob_without_content_length_is_read_to_its_end(bench: Bench) -> None:
    """If an upstream sends no Content-Length, a download ends when the upstream closes the body."""
    remote = FakeRemote(CONTENT, tells_size=False)
    reader = bench.worker().join(task(remote))

    assert reader.size() is None
    assert b"".join(read(reader, 0, None)) == CONTENT


def test_a_late_reader_gets_one_slice_of_the_file(bench: Bench) -> None:
    """A reader that begins after the download gets the whole stored file as one `FileSlice`.

    The server sends a `FileSlice` with `sendfile`.
    """
    worker = bench.worker()
    remote = FakeRemote(CONTENT, until=1)
    reader = worker.join(task(remote))
    remote.let(None)
    eventually(lambda: bench.spooled == [])

    (file_slice,) = reader.read(0, len(CONTENT))
    assert isinstance(file_slice, FileSlice)
    assert (file_slice.start, file_slice.stop) == (0, len(CONTENT))


def test_shown_is_called_before_the_size_is_announced(bench: Bench) -> None:
    """The callback `shown` is called before readers in other workers can see the size of the blob.

    `shown` records that the upstream has the blob, so those readers send no request to the
    upstream.
    """
    shown: list[bool] = []
    worker = bench.worker()

    def show() -> None:
        shown.append(size_path(worker.path(DIGEST)).exists())

    remote = FakeRemote(CONTENT, breaks=[3000])
    read_all(worker.join(replace(task(remote), shown=show)))

    assert shown == [False]


def test_shown_is_not_called_after_a_refusal(bench: Bench) -> None:
    """If the upstream denies the blob, the callback `shown` is not called."""
    shown: list[None] = []
    remote = FakeRemote(CONTENT, refusals=[Denied("fake", "not under this name")])
    with pytest.raises(Denied):
        bench.worker().join(replace(task(remote), shown=lambda: shown.append(None)))

    assert shown == []


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 4321), (9000, 10240), (10239, 10240)])
def test_a_range_of_a_running_download(bench: Bench, start: int, stop: int) -> None:
    """A client that requests a range during a download gets exactly the bytes of that range."""
    reader = bench.worker().join(task(FakeRemote(CONTENT)))

    assert b"".join(read(reader, start, stop)) == CONTENT[start:stop]


def test_an_empty_blob_is_stored(bench: Bench) -> None:
    """A blob of zero bytes is stored."""
    empty = Digest.of(b"")
    reader = bench.worker().join(task(FakeRemote(b""), empty))

    assert read_all(reader) == b""
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


def test_a_reader_continues_after_its_writer_is_killed(bench: Bench) -> None:
    """If the writer's process is killed, a reader in another worker continues the download."""
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


def test_a_wrong_spool_file_is_discarded(bench: Bench) -> None:
    """If a spool file has wrong bytes, the first pull that uses it fails and deletes the file.

    A crash can leave such a file. The next pull of the blob succeeds.
    """
    worker = bench.worker()
    lock = try_lock(worker.path(DIGEST))
    assert lock
    os.pwrite(lock.fd, b"\0" * 4000, 0)
    lock.close()
    remote = FakeRemote(CONTENT, until=4001)
    body = read(worker.join(task(remote)), 0, len(CONTENT))
    with pytest.raises(DigestMismatch):
        list(_letting(remote, body))
    eventually(lambda: bench.spooled == [])

    assert read_all(worker.join(task(FakeRemote(CONTENT)))) == CONTENT
