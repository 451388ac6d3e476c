"""Send requests to one bucket with the library obstore, and translate its errors.

The first call of obstore starts threads. If the process forks afterwards, the child process hangs
at its next call of obstore. So obstore is opened at the first request of a process, and a process
that will fork sends no request before the fork.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from entrepot.datastore.drivers.objects.circuit import StorageCircuit
from entrepot.datastore.drivers.objects.object_service import ObjectService
from entrepot.datastore.drivers.objects.part_memory import PartMemory
from entrepot.datastore.drivers.objects.proxy import proxy_options
from entrepot.datastore.drivers.objects.requests import STATUS, Report, RequestReport
from entrepot.datastore.errors import NotFound, StorageBroken
from entrepot.datastore.storage import Stat

_REQUEST_S: Final = 60
_BODY_S: Final = 24 * 3600
_SILENCE_S: Final = 20
_LOOK_S: Final = 2
_CONNECT_S: Final = 5
_PAUSE_S: Final = 0.1
_LIST_PAGE: Final = 1000
PART_BYTES: Final = 10 * 1024 * 1024
_PARTS_AT_ONCE: Final = 2
_MEMORY_BYTES: Final = 64 * 1024 * 1024
"""A process keeps parts of at most this many bytes in memory; other parts wait for free memory."""

_REFUSALS: Final = {"301", "307", "400", "401", "403", "404", "405", "501"}
_OTHER_TYPE: Final = "InvalidBlobType"
_LONGEST_LINE: Final = 1000

T = TypeVar("T")


class Conflict(StorageBroken):
    """A conditional put wrote nothing: the object is not in the state that the caller expected."""


class OtherType(Conflict):
    """The object has a type that a put cannot replace, so it must be removed first.

    docker distribution writes layers to Azure as append blobs. This client writes block blobs, and
    a block blob cannot replace an append blob.
    """


class Rejected(StorageBroken):
    """The service refused the request, and would refuse a repetition too."""


class OutcomeUnknown(StorageBroken):
    """A request got no response, so the service may have applied it or may apply it later."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A `Bucket` has the address of a bucket, and the options that obstore needs to open it.

    `config` and `client` are these options. An `ObjectClient` sets `attributes` on every object
    that it writes, for example the storage class. `credentials` is a function that returns
    credentials that expire; if it is None, the credentials are in `config`.
    """

    service: ObjectService
    name: str
    prefix: str
    config: Mapping[str, Any]
    client: Mapping[str, Any]
    attributes: Mapping[str, str]
    part_bytes: int = PART_BYTES
    credentials: Callable[[], Any] | None = None


class ObjectClient:
    """An `ObjectClient` sends the requests of one process to a bucket.

    After a failure, a read is sent a second time, and so is a write whose repetition is harmless. A
    removal is never repeated. Keys do not include the prefix of the bucket. Each method can raise
    StorageBroken.
    """

    def __init__(self, bucket: Bucket, circuit: StorageCircuit | None = None) -> None:
        self._bucket = bucket
        self._circuit = circuit or StorageCircuit()
        self._lock = threading.Lock()
        self.requests = RequestReport(bucket.service.metrics_name)
        self._opened: tuple[int, Any, Any] | None = None
        self._quick: tuple[int, Any] | None = None
        self.memory = PartMemory(_MEMORY_BYTES)
        self.part_bytes = bucket.part_bytes

    def report_to(self, report: Report) -> None:
        """Call *report* for each request that this process sends from now on."""
        self.requests = RequestReport(self.service.metrics_name, report)
        self._circuit.report = lambda is_open: self.requests.circuit(is_open=is_open)

    @property
    def service(self) -> ObjectService:
        """Return the kind of object storage to which this client sends requests."""
        return self._bucket.service

    def tls_context(self) -> ssl.SSLContext:
        """Return a TLS context for Python's HTTP client, with the same options as for obstore."""
        options = self._bucket.client
        context = ssl.create_default_context(cadata=options.get("root_certificate"))
        if options.get("allow_invalid_certificates"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def head(self, key: str) -> Stat | None:
        """Return the key and the size of an object; None if it is absent."""
        found = self._read("Stat", lambda: obstore.head(self._requests, key), key)
        return None if found is None else Stat(key, found["size"])

    def look(self, key: str) -> Stat | None:
        """Return the key and the size of an object; None if it is absent.

        The method sends one request, which takes at most two seconds and is not repeated.
        """
        try:
            found = self._once("Stat", lambda: obstore.head(self._looks, key))
        except FileNotFoundError:
            return None
        return Stat(key, found["size"])

    def has_answered(self, within_s: float) -> bool:
        """Return whether a request of this process succeeded in the last *within_s* seconds.

        Return False if a later request has failed.
        """
        return self._circuit.has_answered(within_s)

    def sign(self, key: str, seconds: int) -> str:
        """Return a URL with which any client can GET an object for *seconds*; send no request."""
        try:
            return obstore.sign(self._requests, "GET", key, timedelta(seconds=seconds))
        except (BaseError, OSError, ValueError) as error:
            raise StorageBroken(_line(error)) from error

    def get(self, key: str, start: int = 0) -> obstore.GetResult | None:
        """Return an object from byte *start* on, or None if it is absent.

        The method does not read the body of the response.
        """
        options: Any = {"range": {"offset": start}} if start else None
        return self._read("Reader", lambda: obstore.get(self._bodies, key, options=options), key)

    def put(self, key: str, content: bytes) -> str:
        """Write an object, and return its entity tag."""
        return repeated(lambda: self._put_once(key, content, None), self.requests.repeats)

    def create(self, key: str, content: bytes) -> str:
        """Write an object that does not exist, and return its entity tag.

        Raises: Conflict if the object exists.
        """
        return self._put_once(key, content, "create")

    def replace(self, key: str, content: bytes, entity_tag: str) -> str:
        """Replace an object that still has *entity_tag*, and return its new entity tag.

        Raises: Conflict if the object has another entity tag, or is absent.
        """
        return self._put_once(key, content, {"e_tag": entity_tag})

    def put_once(self, key: str, content: bytes | bytearray) -> None:
        """Write an object with one request, which is not repeated."""
        self._put_once(key, content, None)

    def put_parts(self, key: str, parts: Iterator[bytearray], part_bytes: int) -> None:
        """Write an object from the iterator *parts*, sending each part as soon as it is yielded.

        Each part except the last has *part_bytes* bytes. No request is repeated. If *parts* raises
        an exception, the object is not written, and this method raises the same exception.
        """
        sent = 0

        def counted() -> Iterator[bytearray]:
            nonlocal sent
            for part in parts:
                sent += len(part)
                yield part
                # While the next part waits for memory, this variable must not keep the previous
                # part in memory.
                del part

        def send() -> None:
            obstore.put(
                self._requests,
                key,
                counted(),
                attributes=self._attributes(),
                chunk_size=part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            )

        self._sent("Writer", send, lambda: sent)

    def copy(self, key: str, target: str) -> None:
        """Copy an object within the bucket. Raises: NotFound.

        The caller removes *key* afterwards, so the copy must be complete when this method returns.
        Some services respond to a copy request before the copy is complete. With such a service,
        this method downloads the object and uploads it again.
        """
        try:
            if self.service.copies_at_once:
                self._twice("Move", lambda: obstore.copy(self._requests, key, target))
            else:
                self._twice("Move", lambda: self._transfer(key, target))
        except FileNotFoundError as error:
            raise NotFound(key) from error

    def _transfer(self, key: str, target: str) -> None:
        found = obstore.get(self._bodies, key)
        writer = obstore.open_writer(
            self._bodies,
            target,
            attributes=self._attributes(),
            buffer_size=self._bucket.part_bytes,
            max_concurrency=_PARTS_AT_ONCE,
        )
        for chunk in found.stream(min_chunk_size=self._bucket.part_bytes):
            writer.write(chunk)
        writer.close()  # The service writes the object at this call, not earlier.

    def delete(self, key: str) -> None:
        """Remove an object with one request.

        Raises: OutcomeUnknown if the request got no response; Rejected if the service refused it.
        """
        self._circuit.admit()
        try:
            with self.requests.request("Delete"):
                obstore.delete(self._requests, key)
        except FileNotFoundError:
            pass
        except (BaseError, OSError, ValueError) as error:
            if _is_rejected(error):
                raise Rejected(_line(error)) from error
            self._circuit.failed()
            raise OutcomeUnknown(_line(error)) from error
        self._circuit.worked()

    def names(self, key: str) -> list[str]:
        """Return the names directly below *key*, in byte order."""
        try:
            found = self._twice(
                "List", lambda: obstore.list_with_delimiter(self._requests, key or None)
            )
        except FileNotFoundError as error:
            raise Rejected(_line(error)) from error
        below = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return sorted({each.rpartition("/")[2] for each in below})

    def has_slash(self) -> bool:
        """Return whether the bucket has an object whose full name begins with a slash.

        obstore removes a slash at the start of a name, so no other method of this class finds such
        objects.
        """
        whole = self._store(timeout=_REQUEST_S, prefix="")
        found = self._twice("List", lambda: obstore.list_with_delimiter(whole))
        return "" in found["common_prefixes"]

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield all objects below *key*, with one request for each page of 1,000 objects."""
        for each in self._listed(key):
            yield Stat(each["path"], each["size"])

    def entity_tags(self, key: str) -> Iterator[tuple[str, str]]:
        """Yield the key and the entity tag of each object below *key*.

        One request fetches a page of 1,000 objects.
        """
        for each in self._listed(key):
            yield each["path"], each["e_tag"] or ""

    def _listed(self, key: str) -> Iterator[Any]:
        """Yield the metadata of each object below *key*, as obstore returns it."""
        self._circuit.admit()
        try:
            pages = iter(obstore.list(self._requests, key or None, chunk_size=_LIST_PAGE))
            while True:
                with self.requests.request("Walk"):
                    page = next(pages, None)
                self._circuit.worked()
                if page is None:
                    return
                yield from page
        except FileNotFoundError as error:
            raise Rejected(_line(error)) from error
        except (BaseError, OSError) as error:
            raise self._broken(error) from error

    # ---- one request

    @property
    def _requests(self) -> Any:  # noqa: ANN401 - obstore's class of the service
        """Return the obstore client for requests that must end within a minute."""
        return self._stores()[1]

    @property
    def _bodies(self) -> Any:  # noqa: ANN401 - obstore's class of the service
        """Return the obstore client for bodies, whose requests can take longer than a minute.

        A body can take a day, but must not pause for more than 20 seconds.
        """
        return self._stores()[2]

    @property
    def _looks(self) -> Any:  # noqa: ANN401 - a store of obstore
        """Return the obstore client for `look`, whose requests take at most two seconds.

        Most processes never call `look`, so this client is opened at its first use.
        """
        opened = self._quick
        if opened is None or opened[0] != os.getpid():
            with self._lock:
                opened = self._quick = os.getpid(), self._store(timeout=_LOOK_S)
        return opened[1]

    def _stores(self) -> tuple[int, Any, Any]:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._lock:
                opened = self._opened = (
                    os.getpid(),
                    self._store(timeout=_REQUEST_S),
                    self._store(timeout=_BODY_S),
                )
        return opened

    def _store(self, *, timeout: float, prefix: str | None = None) -> Any:  # noqa: ANN401 - from obstore
        client: Any = {
            **self._bucket.client,
            **proxy_options(self._bucket.config["endpoint"]),
            "timeout": timedelta(seconds=timeout),
            "read_timeout": timedelta(seconds=_SILENCE_S),
            "connect_timeout": timedelta(seconds=_CONNECT_S),
        }
        config: Any = dict(self._bucket.config)
        return self._bucket.service.store(
            self._bucket.name,
            prefix=(self._bucket.prefix if prefix is None else prefix) or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": 0},
            credential_provider=self._bucket.credentials,
        )

    def _attributes(self) -> Any:  # noqa: ANN401 - obstore's type of attributes
        return dict(self._bucket.attributes) or None

    def _sent(self, action: str, act: Callable[[], T], sent: Callable[[], int]) -> T:
        """Send a write. Raises: Rejected if the bucket does not exist."""
        try:
            return self._once(action, act, sent)
        except FileNotFoundError as error:
            raise Rejected(_line(error)) from error

    def _put_once(
        self,
        key: str,
        content: bytes | bytearray,
        mode: Any,  # noqa: ANN401 - from obstore
    ) -> str:
        return self._sent(
            "PutContent", lambda: self._written_once(key, content, mode), lambda: len(content)
        )

    def _written_once(
        self,
        key: str,
        content: bytes | bytearray,
        mode: Any,  # noqa: ANN401 - from obstore
    ) -> str:
        done = obstore.put(
            self._requests,
            key,
            content,
            attributes=self._attributes(),
            mode=mode,
            use_multipart=False,
        )
        return done["e_tag"] or ""

    def _read(self, action: str, act: Callable[[], T], key: str) -> T | None:
        assert not key.endswith("/"), key  # noqa: S101 - layout creates the keys
        try:
            return self._twice(action, act)
        except FileNotFoundError:
            return None

    def _twice(self, action: str, act: Callable[[], T]) -> T:
        """Send a request, and a second time if it fails."""
        return repeated(lambda: self._once(action, act), self.requests.repeats)

    def _once(self, action: str, act: Callable[[], T], sent: Callable[[], int] = int) -> T:
        """Send a request with *act*, once.

        The metrics count the request as *action*. *sent* returns the number of bytes that the
        request has written. Raises: FileNotFoundError, which the caller translates.
        """
        self._circuit.admit()
        began = self._circuit.now()
        try:
            with self.requests.request(action, sent):
                found = act()
        except FileNotFoundError:
            self._circuit.worked(began)
            raise
        except (BaseError, OSError, ValueError) as error:
            raise self._broken(error) from error
        self._circuit.worked(began)
        return found

    def _broken(self, error: Exception) -> StorageBroken:
        if isinstance(error, AlreadyExistsError | PreconditionError):
            self._circuit.worked()
            line = _line(error)
            return (OtherType if _OTHER_TYPE in line else Conflict)(line)
        if _is_rejected(error):
            self._circuit.worked()
            return Rejected(_line(error))
        self._circuit.failed()
        return StorageBroken(_line(error))


def repeated(act: Callable[[], T], report: Callable[[], None]) -> T:
    """Call *act*, which sends requests with an `ObjectClient`; if it fails, call it once more.

    Call *report* before the repetition. A request that the service refused is not repeated.
    """
    try:
        return act()
    except (Conflict, Rejected):
        raise
    except StorageBroken:
        report()
        time.sleep(_PAUSE_S)
        return act()


def _is_rejected(error: Exception) -> bool:
    """Return whether the service refused the request and would refuse a repetition too.

    Return True if a permission is missing, or if the status of the response is in `_REFUSALS`. This
    set does not have 408 and 429, with which a service asks for a later repetition, or 409, which
    means a conflict with another request.
    """
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return True
    status = STATUS.search(str(error))
    return status is not None and status[1] in _REFUSALS


def _line(error: Exception) -> str:
    """Return an error of obstore as one line, without the XML body and the debug output.

    The error code in the XML body is appended.
    """
    text = str(error).partition("\n")[0].partition("<?xml")[0].strip(" :")
    code = str(error).partition("<Code>")[2].partition("</Code>")[0]
    return f"{text}: {code}"[:_LONGEST_LINE] if code else text[:_LONGEST_LINE]
