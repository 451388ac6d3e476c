"""Deviations of real registries from the specification, which a fake upstream can imitate."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.fake_repository import error
from tests.wire import Reply, Seen

_OFFERED = {"manifests": "*/*", "blobs": "application/octet-stream", "tags": "application/json"}
_CODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": lambda body: zlib.compress(body, wbits=-15),
    "identity": lambda body: body,
    "deflate, gzip": lambda body: gzip.compress(zlib.compress(body)),
}
_KIND = re.compile(r"/v2/.+/(manifests|blobs|tags|referrers)/([^/]+)$")


@dataclass(slots=True)
class Quirks:
    """A `Quirks` has the deviations of one registry; by default the registry has none.

    strict_accept   respond 406 if Accept excludes the type of the object
    tag_digest      Docker-Content-Digest of a manifest that is requested by tag
    tag_order       a function that returns the tags of a list in the order of this registry
    tag_page        the number of tags on a page, regardless of `n`
    ignores         query parameters that this registry ignores
    most_n          respond 400 if `n` is larger
    link            the Link to the next page of tags; `{path}` and `{last}` are replaced
    closed_ranges   respond 416 to a range without an end
    no_ranges       respond 416 to every range
    get_first       respond 404 to HEAD until a GET has requested the same path
    coding          encode every body, also the body of a 206, with this key of `_CODERS`
    label           the Content-Encoding of every body; the body is not encoded
    endless         each list links to one more page, whose tags sort after all others
    """

    strict_accept: bool = False
    tag_digest: str | None = None
    tag_order: Callable[[list[str]], list[str | None]] | None = None
    tag_page: int | None = None
    ignores: frozenset[str] = frozenset()
    most_n: int | None = None
    link: str | None = None
    closed_ranges: bool = False
    no_ranges: bool = False
    get_first: bool = False
    coding: str | None = None
    label: str | None = None
    endless: bool = False
    _pages: int = 0
    _got: set[str] = field(default_factory=set)

    def without_ignored(self, seen: Seen) -> Seen:
        """Return the request without the query parameters that this registry ignores."""
        known = {name: text for name, text in seen.query.items() if name not in self.ignores}
        return replace(seen, query=known)

    def refusal(self, seen: Seen) -> Reply | None:
        """Return the refusal that replaces the usual response, or None."""
        kind, _ = _requested(seen)
        accept = seen.headers.get("accept", "*/*")
        offered = _OFFERED.get(kind)
        if self.strict_accept and offered and "*/*" not in accept and offered not in accept:
            return error(406, "NOT_ACCEPTABLE")
        sent = seen.headers.get("range", "")
        if (self.closed_ranges and sent.endswith("-")) or (self.no_ranges and sent):
            return error(416, "RANGE_INVALID")
        if seen.method == "GET":
            self._got.add(seen.path)
        elif self.get_first and seen.method == "HEAD" and seen.path not in self._got:
            return error(404, "NOT_FOUND")
        if self.most_n is not None and int(seen.query.get("n", 0)) > self.most_n:
            return error(400, "PAGINATION_NUMBER_INVALID")
        return None

    def changed(self, seen: Seen, reply: Reply) -> Reply:
        """Return the usual response, changed as this registry would send it."""
        kind, reference = _requested(seen)
        if self.tag_digest and kind == "manifests" and ":" not in reference:
            reply = _with(reply, "Docker-Content-Digest", self.tag_digest)
        if kind == "tags" and reply.status == 200 and self._is_odd_list():
            reply = self._list(seen, reply)
        if self.endless:
            reply = self._with_one_more(seen, reply)
        if self.label:
            reply = _with(reply, "Content-Encoding", self.label)
        if self.coding and reply.status < 300:
            coded = replace(reply, body=_CODERS[self.coding](reply.body))
            reply = _with(coded, "Content-Encoding", self.coding.removeprefix("raw "))
        return reply

    def _is_odd_list(self) -> bool:
        return (self.tag_order, self.tag_page, self.link) != (None, None, None)

    def _list(self, seen: Seen, reply: Reply) -> Reply:
        document = json.loads(reply.body)
        tags = document["tags"]
        headers = dict(reply.headers)
        if self.tag_page is not None:
            page = int(seen.query.get("page", 0))
            start, stop = page * self.tag_page, (page + 1) * self.tag_page
            if stop < len(tags):
                headers["Link"] = f'<{seen.path}?page={page + 1}>; rel="next"'
            tags = tags[start:stop]
        if self.link is not None and "Link" in headers:
            headers["Link"] = self.link.format(path=seen.path, last=tags[-1])
        if self.tag_order is not None:
            tags = self.tag_order(tags)
        return replace(reply, headers=headers, body=json.dumps({**document, "tags": tags}).encode())

    def _with_one_more(self, seen: Seen, reply: Reply) -> Reply:
        self._pages += 1
        document = json.loads(reply.body)
        document["tags"] = [f"{self._pages:04}{tag}" for tag in document.get("tags", ())]
        headers = {**reply.headers, "Link": f'<{seen.path}?page={self._pages}>; rel="next"'}
        return replace(reply, headers=headers, body=json.dumps(document).encode())


def _requested(seen: Seen) -> tuple[str, str]:
    """Return the kind of object and the reference in a request's path; "" and "" if it has none."""
    match = _KIND.fullmatch(seen.path)
    return (match[1], match[2]) if match else ("", "")


def _with(reply: Reply, name: str, text: str) -> Reply:
    return replace(reply, headers={**reply.headers, name: text}) if reply.status < 300 else reply
