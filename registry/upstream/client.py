"""Implement the interface `Upstream`: a client of one upstream's distribution API over HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from entrepot.datastore.errors import Malformed
from entrepot.datastore.manifest import ACCEPT, LARGEST, MOST_DESCRIPTORS, OCI_INDEX
from entrepot.datastore.refs import Digest, Reference
from entrepot.registry.errors import Absent, ListTooLong
from entrepot.registry.upstream.blob import HttpBlob
from entrepot.registry.upstream.documents import (
    UnsupportedType,
    is_page,
    join_referrers,
    may_be_manifest,
    read_manifest,
    read_referrers,
    read_tags,
)
from entrepot.registry.upstream.exchange import Exchange, UpstreamRequest
from entrepot.registry.upstream.headers import (
    content_digest,
    content_length,
    content_range,
    media_type,
    next_page,
    unsatisfied,
)
from entrepot.registry.upstream.one_large import one_large
from entrepot.registry.upstream.protocol import Fetch, HeadResult, RemoteBlob, RemoteManifest
from entrepot.registry.upstream.wire import ConnectionBroken, Response, TooLong, deadline
from entrepot.runtime.bounded_dict import BoundedDict

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")
_OK, _PARTIAL = 200, 206
_UNSATISFIABLE = 416
_RANGED = frozenset({_OK, _PARTIAL, _UNSATISFIABLE})
# Registries without the referrers API send these statuses (OCI distribution-spec 1.1, end-12a).
_NO_REFERRERS = frozenset({400, 404, 405, 406, 501})
# ECR rejects a parameter `n` above 1000 with a 400.
_TAG_PAGE = 1000
# Some registries respond 400, 416 or 422 to every request with the parameter `n` or `last`. The
# client then reads the whole list.
_TAG_STATUSES = frozenset({_OK, 400, 416, 422})
_MOST_VERBATIM = 256
# These constants limit the sum of all pages of a list, in bytes, tags, pages and seconds.
_LARGEST_LIST = 16 * 1024 * 1024
_MOST_TAGS = 200_000
_MOST_PAGES = 1000
_LIST_WITHIN_S = 120.0


class _ListLimits:
    """A `_ListLimits` holds the bytes, the pages and the time that are left for one list.

    `until` is the deadline in seconds (monotonic clock). If the upstream sends no Link headers,
    `_tags_in_order` calls `_pages` several times for one list; all calls share one `_ListLimits`.
    """

    def __init__(self, until: float) -> None:
        self.until = until
        self.bytes = _LARGEST_LIST
        self.pages = _MOST_PAGES


class HttpUpstream:
    """An `HttpUpstream` is one upstream registry over HTTP; any thread may call it.

    A process must not fork after the first use of an `HttpUpstream`.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._has_warned = False
        self._verbatim = _VerbatimBlobs()

    @property
    def is_healthy(self) -> bool:
        """True if the upstream responded to the last request of any worker."""
        return self._exchange.is_healthy

    def head(self, name: str, reference: Reference) -> HeadResult:
        """Return a manifest's descriptor; if HEAD gets no usable response, read the manifest."""
        path = f"manifests/{reference}"
        head, get = (
            UpstreamRequest("head", "HEAD", name, path),
            UpstreamRequest("manifest", "GET", name, path),
        )
        with closing(self._exchange.describe(head, get, _describes_manifest)) as response:
            if response.method != "HEAD":
                read = self._manifest(response, reference)
                return HeadResult(read.digest, len(read.body), read.media_type, read)
            headers = response.headers
            named = media_type(headers)
            known = named if named in ACCEPT else ""
            return HeadResult(content_digest(headers), content_length(headers), known)

    def manifest(self, name: str, reference: Reference) -> RemoteManifest:
        """Fetch a manifest. If *reference* is a digest, verify the body against that digest.

        Do not trust the header Docker-Content-Digest, because some registries send the digest of
        another manifest in it.
        """
        with self._open(
            UpstreamRequest("manifest", "GET", name, f"manifests/{reference}")
        ) as response:
            return self._manifest(response, reference)

    def _manifest(self, response: Response, reference: Reference) -> RemoteManifest:
        named, announced = media_type(response.headers), content_digest(response.headers)
        body = self._read_body(response, LARGEST)
        expected = reference if isinstance(reference, Digest) else None
        try:
            with one_large(self._exchange.host, body):
                found = read_manifest(body, named, expected)
        except UnsupportedType as error:
            raise self._exchange.unsupported(str(error), named) from error
        except (Malformed, ValueError) as error:
            raise self._exchange.nonsense(
                "the upstream's manifest cannot be used", error
            ) from error
        self._compare(announced, body)
        return found

    def _compare(self, announced: Digest | None, body: bytes) -> None:
        """Log once if the Docker-Content-Digest header differs from the digest of the body."""
        if announced is None or self._has_warned:
            return
        actual = Digest.of(body, announced.algorithm)
        if actual != announced:
            self._has_warned = True
            fields = {"upstream": self._exchange.host, "digest": actual, "header": announced}
            log.warning("Docker-Content-Digest is not the digest of the manifest", extra=fields)

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None if the upstream does not send the size.

        If HEAD gets no usable response, the client requests the first byte with GET.
        """
        path = f"blobs/{digest}"
        head, whole = (
            UpstreamRequest("blob", "HEAD", name, path),
            UpstreamRequest("blob", "GET", name, path),
        )
        first = replace(whole, headers={"Range": "bytes=0-0"}, accepts=_RANGED)
        with closing(self._exchange.describe(head, first, _is_ok)) as response:
            if response.status != _UNSATISFIABLE:
                return _blob_size(response)
        with self._open(whole) as response:  # The blob is empty, or the upstream rejects ranges.
            return _blob_size(response)

    @contextmanager
    def blob(
        self,
        name: str,
        digest: Digest,
        start: int = 0,
        stop: int | None = None,
        *,
        size: int | None = None,
    ) -> Iterator[RemoteBlob]:
        """Open a blob from *start* to *stop* (exclusive, in bytes).

        *size* is the blob's size in bytes according to a manifest, or None if unknown.
        """
        headers, accepts = _range(start, stop)
        request = UpstreamRequest(
            "blob",
            "GET",
            name,
            f"blobs/{digest}",
            headers=headers,
            accepts=accepts,
            is_begun=start > 0,
        )
        with self._open(request) as response:
            if response.status == _PARTIAL and self._is_verbatim(response, digest):
                yield HttpBlob(self._exchange, response, start, stop, as_sent=True)
                return
            if response.status == _OK:
                with self._whole(response, digest, size) as body:
                    yield body
                return
            if response.status == _UNSATISFIABLE and _ends_before(response, start):
                raise self._exchange.nonsense("the blob ends before the requested range")
        # The response to the range request was unusable: the body is encoded, so that its offsets
        # count encoded bytes, or the upstream rejects every range. So the client requests the whole
        # blob.
        with (
            self._open(replace(request, headers={}, accepts=frozenset({_OK}))) as response,
            self._whole(response, digest, size) as body,
        ):
            yield body

    def _is_verbatim(self, response: Response, digest: Digest) -> bool:
        return not response.codings or digest in self._verbatim

    @contextmanager
    def _whole(self, response: Response, digest: Digest, size: int | None) -> Iterator[HttpBlob]:
        """Yield the body of a whole blob; decode the body unless the encoded bytes are the blob."""
        if self._is_verbatim(response, digest):
            yield HttpBlob(self._exchange, response, as_sent=True)
            return
        with self._verbatim.learning(digest) as seen:
            yield HttpBlob(self._exchange, response, seen=seen, named=size)

    def blob_sources(self, name: str, digest: Digest, size: int | None = None) -> tuple[Fetch, ...]:
        """Return a tuple with one function, which opens the blob at this upstream."""
        return (partial(self.blob, name, digest, size=size),)

    def tags(self, name: str, after: str | None = None, limit: int | None = None) -> list[str]:
        """List tags in order and read as many pages as needed.

        Some registries ignore or reject the parameters `n` and `last`, or sort tags differently. If
        a page is not the requested page, the client reads and sorts the whole list, and selects the
        requested tags.
        """
        until = time.monotonic() + _LIST_WITHIN_S
        if after is None and limit is None:
            return self._all_tags(name, _ListLimits(until))
        found = self._tags_in_order(name, after, limit, _ListLimits(until))
        if found is None:
            listed = self._all_tags(name, _ListLimits(until))
            found = [tag for tag in listed if not after or tag > after]
        return found[:limit]

    def _all_tags(self, name: str, limits: _ListLimits) -> list[str]:
        """Read the whole list of tags, up to the last page or a page that adds no tag."""
        # PERF: a dict keeps the order of the upstream's list, which is mostly sorted already.
        # Sorting 90,000 tags in the random order of a set would hold the interpreter lock for 30
        # ms.
        found: dict[str, None] = {}
        for page in self._pages(UpstreamRequest("tags", "GET", name, "tags/list"), limits):
            listed, before = self._parsed(self._read_tags, page.body), len(found)
            found.update(dict.fromkeys(listed))
            if listed and len(found) == before:
                break
            self._bound_tags(len(found))
        return sorted(found)

    def _tags_in_order(
        self, name: str, after: str | None, limit: int | None, limits: _ListLimits
    ) -> list[str] | None:
        """Read pages of tags after *after* until there are *limit* tags.

        Return None if a page is not the requested page.
        """
        found: list[str] = []
        page_size = None if limit is None else min(max(limit, 1), _TAG_PAGE)
        while True:
            last = found[-1] if found else after or ""
            query = {} if page_size is None else {"n": str(page_size)}
            query |= {"last": last} if last else {}
            request = UpstreamRequest(
                "tags", "GET", name, "tags/list", query, accepts=_TAG_STATUSES
            )
            listed: list[str] = []
            for page in self._pages(request, limits):
                listed = self._parsed(self._read_tags, page.body) if page.status == _OK else []
                if page.status != _OK or not is_page(listed, last, page_size):
                    return None
                found += listed
                self._bound_tags(len(found))
                if limit is not None and len(found) >= limit:
                    return found
                last = found[-1] if found else last
            if page_size is None or len(listed) < page_size:
                return found

    def _read_tags(self, body: bytes) -> list[str]:
        with one_large(self._exchange.host, body):
            return read_tags(body)

    def _bound_tags(self, count: int) -> None:
        if count > _MOST_TAGS:
            raise self._too_long(f"more than {_MOST_TAGS} tags")

    def referrers(
        self, name: str, digest: Digest, artifact_type: str | None = None
    ) -> RemoteManifest:
        """Fetch all pages of a manifest's referrers as one index.

        The client filters the list if the upstream did not filter it. Raises: Absent if the
        response is not an index, which means that the upstream has no referrers API.
        """
        query = {"artifactType": artifact_type} if artifact_type else {}
        path = f"referrers/{digest}"
        request = UpstreamRequest("referrers", "GET", name, path, query, absent=_NO_REFERRERS)
        first, found, filtered, pages = b"", [], True, 0
        for page in self._pages(request, _ListLimits(time.monotonic() + _LIST_WITHIN_S)):
            listed = self._referrers_of(page, is_first=not pages)
            first, pages = first or page.body, pages + 1
            found += listed
            filtered = filtered and _is_filtered(page.headers)
            if len(found) > MOST_DESCRIPTORS:
                raise self._too_long(f"more than {MOST_DESCRIPTORS} referrers")
        if artifact_type and not filtered:
            found = [each for each in found if each.get("artifactType") == artifact_type]
        elif pages == 1 and found:
            return RemoteManifest(Digest.of(first), OCI_INDEX, first)
        return join_referrers(first, found)

    def _referrers_of(self, page: _Page, *, is_first: bool) -> list[dict[str, Any]]:
        """Read one page of a list of referrers.

        Raises: Absent if the first page is not an index, Unavailable if a later page is not.
        """
        try:
            if media_type(page.headers) != OCI_INDEX:
                raise ValueError(f"a page of type {media_type(page.headers)!r}")  # noqa: TRY301
            with one_large(self._exchange.host, page.body):
                return read_referrers(page.body)
        except ValueError as error:
            if is_first:
                raise Absent(self._exchange.host, "the upstream has no referrers API") from error
            raise self._exchange.nonsense(
                "the upstream's list of referrers is not an index", error
            ) from error

    @contextmanager
    def _open(self, request: UpstreamRequest) -> Iterator[Response]:
        response = self._exchange.send(request)
        try:
            yield response
        finally:
            response.close()

    def _pages(self, request: UpstreamRequest, limits: _ListLimits) -> Iterator[_Page]:
        """Request the pages of a list, always on the upstream's own host.

        The Link header may name a different host, because a registry behind a proxy may not know
        its own name. A link to a page that was already read ends the list.
        """
        read: set[str] = set()
        while limits.pages > 0:
            base = self._exchange.locate(request)
            read.add(base)
            with deadline(limits.until), self._open(request) as response:
                body = self._read_page(response, limits)
                page = _Page(response.status, response.headers, body)
            limits.pages -= 1
            limits.bytes -= len(body)
            yield page
            url = self._parsed(partial(next_page, url=base), page.headers)
            if url is None or url in read:
                return
            request = replace(request, url=url, query={})
        raise self._too_long(f"more than {_MOST_PAGES} pages")

    def _too_long(self, what: str) -> ListTooLong:
        return ListTooLong(self._exchange.host, f"the upstream's list is too long: {what}")

    def _read_page(self, response: Response, limits: _ListLimits) -> bytes:
        """Read one page within the *limits* of its list."""
        try:
            return response.read(limits.bytes, max(limits.until - time.monotonic(), 0.0))
        except TooLong as error:
            raise self._too_long(f"more than {_LARGEST_LIST} bytes") from error
        except ConnectionBroken as error:
            raise self._exchange.broken(error) from error

    def _read_body(self, response: Response, limit: int) -> bytes:
        try:
            return response.read(limit)
        except ConnectionBroken as error:
            raise self._exchange.broken(error) from error

    def _parsed(self, read: Callable[[S], T], given: S) -> T:
        """Return the result of *read*, which parses *given*.

        Raises: Unavailable (NONSENSE) if *read* raises ValueError.
        """
        try:
            return read(given)
        except ValueError as error:
            raise self._exchange.nonsense("the upstream's list cannot be read", error) from error


class _VerbatimBlobs:
    """A `_VerbatimBlobs` lists blobs that must not be decoded, whatever Content-Encoding states.

    Some registries send Content-Encoding with a layer that is itself a compressed file. Only the
    digest shows whether the encoded or the decoded bytes are the blob. The first download of a blob
    decodes the body. If the encoded bytes have the digest, the blob is remembered, and the next
    download does not decode the body.
    """

    def __init__(self) -> None:
        self._as_sent: BoundedDict[Digest, None] = BoundedDict(_MOST_VERBATIM)
        self._lock = threading.Lock()

    def __contains__(self, digest: Digest) -> bool:
        with self._lock:
            return digest in self._as_sent

    @contextmanager
    def learning(self, digest: Digest) -> Iterator[Callable[[bytes], None]]:
        """Yield a function that receives the bytes as the upstream sent them.

        If these bytes have the digest *digest*, the next download does not decode the blob.
        """
        hasher = digest.hasher()
        try:
            yield hasher.update
        finally:
            if hasher.hexdigest() == digest.hex:
                self._learn(digest)

    def _learn(self, digest: Digest) -> None:
        with self._lock:
            self._as_sent.keep(digest, None)


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    headers: Mapping[str, str]
    body: bytes


def _range(start: int, stop: int | None) -> tuple[dict[str, str], frozenset[int]]:
    """Return the Range header and the accepted statuses; for a whole blob there is no header."""
    if start == 0 and stop is None:
        return {}, frozenset({_OK})
    last = "" if stop is None else stop - 1
    return {"Range": f"bytes={start}-{last}"}, _RANGED


def _describes_manifest(response: Response) -> bool:
    """Return whether the response to a HEAD can describe a manifest."""
    is_possible = may_be_manifest(media_type(response.headers))
    return content_digest(response.headers) is not None or is_possible


def _is_ok(_: Response) -> bool:
    return True


def _ends_before(response: Response, start: int) -> bool:
    size = unsatisfied(response.headers)
    return size is not None and size <= start


def _blob_size(response: Response) -> int | None:
    """Return the size of the blob in bytes according to a response to HEAD or GET."""
    if response.codings:
        return None
    if response.status == _PARTIAL:
        sent = content_range(response.headers)
        return sent.size if sent else None
    return content_length(response.headers)


def _is_filtered(headers: Mapping[str, str]) -> bool:
    """Return whether the upstream filtered the list (OCI distribution-spec 1.1, end-12b)."""
    applied = headers.get("OCI-Filters-Applied", "")
    return "artifactType" in (each.strip() for each in applied.split(","))
