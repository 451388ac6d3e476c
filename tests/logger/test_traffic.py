"""Tests of `traffic.count`, which counts the lines of the access log in metrics."""

from __future__ import annotations

import pytest

from entrepot.datastore.accesslog import AccessLine
from entrepot.logger import traffic
from entrepot.logger.labels import UpstreamLabels
from entrepot.logger.metrics import Labels, Metric, Registry
from tests.logger.lines import answer

MISS = "entrepot; fwd=uri-miss; stored"
STALE = "entrepot; hit; ttl=-1; detail=timeout"


def _counted(*lines: AccessLine) -> Registry:
    registry = Registry(traffic.METRICS)
    traffic.count([(line, 1) for line in lines], registry, UpstreamLabels())
    return registry


def _values(metric: Metric, *lines: AccessLine) -> dict[Labels, float]:
    return {labels: amounts[0] for labels, amounts in _counted(*lines).values(metric).items()}


def test_every_response_is_counted() -> None:
    """Each response, even to a failed request, is counted by method, status and handler."""
    lines = [answer(), answer(digest="x"), answer(method="HEAD", status=404), answer(status=-1)]

    assert _values(traffic.REQUESTS, *lines) == {
        ("get", "200", "blob"): 2,
        ("head", "404", "blob"): 1,
        ("get", "none", "blob"): 1,
    }


def test_content_is_counted_by_upstream_kind_and_result() -> None:
    """Responses with content are counted by upstream, kind and cache result.

    A line without a kind of content does not count.
    """
    lines = [
        answer(),
        answer(cache=MISS),
        answer(kind="index", repository="team/app", cache=""),
        answer(kind="", repository="quay.io/x"),
    ]

    assert _values(traffic.CACHE, *lines) == {
        ("quay.io", "blob", "hit"): 1,
        ("quay.io", "blob", "miss"): 1,
        ("hosted", "index", "none"): 1,
    }
    assert _values(traffic.SENT, *lines) == {("quay.io", "blob"): 2000, ("hosted", "index"): 1000}


def test_proxied_responses_have_docker_distribution_s_counters() -> None:
    """Docker distribution's counters count each response with proxied content as a hit or miss."""
    lines = [
        answer(),
        answer(cache=MISS),
        answer(cache=STALE, kind="manifest"),
        answer(status=502, cache=""),
        answer(repository="team/app"),
        answer(kind="tags"),
    ]

    assert _values(traffic.PROXY_REQUESTS, *lines) == {("blob",): 2, ("manifest",): 1}
    assert _values(traffic.PROXY_HITS, *lines) == {("blob",): 1, ("manifest",): 1}
    assert _values(traffic.PROXY_MISSES, *lines) == {("blob",): 1}
    assert _values(traffic.PROXY_PUSHED, *lines) == {("blob",): 2000, ("manifest",): 1000}


def test_stale_responses_are_counted_by_reason() -> None:
    """Stale responses are counted by upstream and reason; operators set alerts on this metric."""
    assert _values(traffic.STALE, answer(), answer(cache=STALE)) == {("quay.io", "timeout"): 1}


@pytest.mark.parametrize(
    ("milliseconds", "place"), [(-1, 0), (1, 0), (2, 1), (300_000, 15), (300_001, 16)]
)
def test_a_duration_is_counted_in_its_bucket(milliseconds: int, place: int) -> None:
    """A duration is counted in the first histogram bucket whose upper bound includes it.

    Prometheus defines buckets in this way.
    """
    found = _counted(answer(duration=milliseconds)).values(traffic.DURATION)[("get", "blob")]

    assert found[0] == max(milliseconds, 0) / 1000
    assert [index for index, count in enumerate(found[1:]) if count] == [place]


def test_similar_lines_are_grouped() -> None:
    """If five equal lines are counted together, the histogram has their total size and number."""
    found = _counted(*[answer(bytes=10, duration=2)] * 5).values(traffic.SIZE)[("blob",)]

    assert found[0] == 50
    assert found[1] == 5


def test_a_repeated_line_is_counted_with_its_number() -> None:
    """A line with a number of repetitions changes metrics as much as that many separate lines."""
    lines = [answer(bytes=10, duration=2), answer(bytes=10, duration=40), answer(cache=STALE)]
    together, apart = Registry(traffic.METRICS), Registry(traffic.METRICS)
    traffic.count([(lines[0], 3), (lines[1], 1), (lines[2], 2)], together, UpstreamLabels())
    each = [lines[0]] * 3 + [lines[1]] + [lines[2]] * 2
    traffic.count([(line, 1) for line in each], apart, UpstreamLabels())

    assert together.changed() == apart.changed()
