"""The values of the header Cache-Status follow the grammar of RFC 9211."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.registry.api import cache_status
from entrepot.registry.api.cache_status import Forward


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (cache_status.HIT, "entrepot; hit"),
        (cache_status.hit(), "entrepot; hit"),
        (cache_status.hit(ttl=59.9), "entrepot; hit; ttl=59"),
        (
            cache_status.hit(ttl=-412.0, detail="timeout"),
            "entrepot; hit; ttl=-412; detail=timeout",
        ),
        (cache_status.forwarded(Forward.URI_MISS), "entrepot; fwd=uri-miss"),
        (
            cache_status.forwarded(Forward.URI_MISS, collapsed=True),
            "entrepot; fwd=uri-miss; collapsed",
        ),
        (
            cache_status.forwarded(Forward.STALE, status=304, ttl=60),
            "entrepot; fwd=stale; fwd-status=304; ttl=60",
        ),
        (
            cache_status.forwarded(Forward.PARTIAL, stored=True, detail="no room"),
            'entrepot; fwd=partial; stored; detail="no room"',
        ),
        (cache_status.neither(), "entrepot"),
        (cache_status.neither("resting"), "entrepot; detail=resting"),
    ],
)
def test_values_follow_the_grammar(actual: str, expected: str) -> None:
    """A Cache-Status has one list member, with its parameters in the order that RFC 9211 lists.

    A boolean parameter that is true is written without a value.
    """
    assert expected == actual


@given(st.text())
def test_any_detail_is_a_token_or_a_quoted_string(detail: str) -> None:
    """An upstream's text in `detail` is written as a token or a quoted string.

    Such text cannot add a parameter to the header.
    """
    header = cache_status.neither(detail)

    string = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
    token = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
    assert re.fullmatch(rf"entrepot; detail=(?:{token}|{string})", header)
