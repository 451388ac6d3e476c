"""`judge` compares the results of the benchmark with targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.figures import plain_figure
from bench.growth import TITLES
from bench.kinds import NGINX, OURS, REGISTRY
from bench.rows import ROWS
from bench.targets import GROWTH_TARGETS, TARGETS, Target, beaten_by, judge

_ROW = "manifest-digest"


def test_a_target_against_another_server_is_a_ratio() -> None:
    """A target against another server limits the ratio of two costs: 10 against 2,000 is 1/200."""
    results = {_ROW: {OURS: plain_figure(10), REGISTRY: plain_figure(2000)}}
    verdict = judge(Target(_ROW, 1 / 100, REGISTRY), results)

    assert (verdict.ours, verdict.is_met) == (0.005, True)


def test_a_target_without_another_server_is_a_value() -> None:
    """A target that names no other server limits a value of Entrepot, such as `fetched times`."""
    results = {_ROW: {OURS: plain_figure(10, {"fetched times": 2})}}
    verdict = judge(Target(_ROW, 1, figure="fetched times"), results)

    assert (verdict.ours, verdict.is_met) == (2, False)


def test_a_target_against_another_row_is_a_ratio_of_our_own_costs() -> None:
    """A target against another row limits the ratio of Entrepot's costs in the two rows."""
    results = {
        "token-rs256": {OURS: plain_figure(30), REGISTRY: plain_figure(4000)},
        "tag-login": {OURS: plain_figure(20), REGISTRY: plain_figure(60_000)},
    }
    verdict = judge(Target("token-rs256", 2, "tag-login"), results)

    assert (verdict.ours, verdict.is_met) == (1.5, True)
    assert judge(Target("token-rs256", 2, "tag-login"), {"token-rs256": {}}).ours is None


@pytest.mark.parametrize("lacking", [OURS, REGISTRY])
def test_a_target_that_was_not_measured_is_not_met(lacking: str) -> None:
    """A target that was not measured is not met: a missing result is not a success."""
    results = {_ROW: {name: plain_figure(1) for name in (OURS, REGISTRY) if name != lacking}}
    verdict = judge(Target(_ROW, 2, REGISTRY), results)

    assert (verdict.ours, verdict.is_met) == (None, False)


def test_failed_work_meets_no_target() -> None:
    """A row with failed requests meets no target, because error responses cost less."""
    results = {_ROW: {OURS: replace(plain_figure(1), failures=1), NGINX: plain_figure(5)}}

    assert not judge(Target(_ROW, 2, NGINX), results).is_met


def test_a_cheaper_peer_is_named_with_its_ratio() -> None:
    """If a peer costs less than Entrepot in a row, it is listed with the ratio of the costs."""
    results = {
        _ROW: {OURS: plain_figure(10), "drayage": plain_figure(5), "other": plain_figure(20)}
    }

    assert beaten_by(_ROW, results, ["drayage", "other", "absent"]) == {"drayage": 2.0}


def test_every_target_names_an_existing_row() -> None:
    """Every target is for an existing row; a misspelled row would never be checked."""
    assert {each.row for each in TARGETS} <= set(ROWS)
    assert {each.row for each in GROWTH_TARGETS} <= set(TITLES)
