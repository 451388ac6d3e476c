"""Tables and charts show the results of the benchmark."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from bench.chart import SHOWN, Scale, chart
from bench.figures import plain_figure
from bench.growth import TITLES
from bench.growth_chart import growth_chart
from bench.kinds import NGINX, OURS, REGISTRY
from bench.table import aligned, markdown, number, table, verdicts, word
from bench.targets import Target, Verdict

_SVG = "{http://www.w3.org/2000/svg}"
_RESULTS = {
    "manifest-tag": {
        REGISTRY: plain_figure(2000),
        NGINX: plain_figure(5),
        OURS: plain_figure(10),
    },
    "blob-large": {REGISTRY: plain_figure(0.6), OURS: plain_figure(0.2, {"x": 1})},
    "memory": {OURS: plain_figure(180)},
}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.001234, "0.00123"), (8.126, "8.13"), (99.96, "100"), (12345.6, "12,346")],
    ids=str,
)
def test_a_number_has_three_significant_digits(value: float, text: str) -> None:
    """A number in a table has three significant digits."""
    assert number(value) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Each column of a table is as wide as its widest cell; the last cell is not padded."""
    assert aligned([("a", "b", "c"), ("long", "", "also long")]) == "a     b  c\nlong     also long"


def test_the_table_gives_the_reason_of_a_failure() -> None:
    """If a row has failed on a server, the table has the reason in place of a figure."""
    text = table(_RESULTS, {"manifest-tag": {"drayage": "it ended"}})

    assert "drayage" in text
    assert "FAILED: it ended" in text


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(Target("memory", 2), 1.0), "met"),
        (Verdict(Target("memory", 2), 3.0), "MISSED"),
        (Verdict(Target("memory", 2), None), "NOT MEASURED"),
        (Verdict(Target("memory", 2), 1.0, 5), "FAILED 5 times"),
    ],
    ids=["met", "missed", "unmeasured", "failed"],
)
def test_a_verdict_is_a_word(verdict: Verdict, expected: str) -> None:
    """The table of the targets states in one or two words whether a target is met."""
    assert word(verdict) == expected
    assert expected in verdicts([verdict], {"memory": "memory"})


def test_markdown_has_empty_cells_for_rows_without_a_figure() -> None:
    """If a row was not measured on a server, the Markdown table has an empty cell."""
    lines = markdown(_RESULTS, [REGISTRY, NGINX, OURS]).splitlines()

    assert lines[0] == "| | | docker-registry | nginx | entrepot |"
    assert "| blob of 100 MB, warm, plain HTTP | CPU s/GB | 0.6 |  | 0.2 |" in lines


def test_markdown_does_not_hide_a_failure() -> None:
    """The Markdown table shows failures beside a cost, because failed requests lower the cost."""
    failed = {"memory": {OURS: replace(plain_figure(180), failures=3)}}

    assert markdown(failed, [OURS]).splitlines()[-1].endswith("| 180 (3 failures) |")


def test_the_chart_has_a_bar_and_a_sentence_for_every_ratio() -> None:
    """A row with results of Entrepot and docker-registry has a bar and a sentence in the chart."""
    drawn = ET.fromstring(chart(_RESULTS, "a < b"))
    words = drawn.findtext(f"{_SVG}desc")

    assert len(drawn.findall(f"{_SVG}rect")) == 2
    assert words is not None
    assert "entrepot 10 CPU µs/request, 200 times." in words
    assert "entrepot 0.2 CPU s/GB, 3 times." in words


def test_a_chart_has_eight_bars_at_most() -> None:
    """The chart has at most eight bars, because more cannot be compared at a glance."""
    assert len(set(SHOWN)) <= 8


def test_the_chart_of_growth_has_a_line_and_a_sentence_for_every_row() -> None:
    """The chart of growth has a line for each row, and a point on it for each number of blobs."""
    sizes = {"10,000": plain_figure(0.01), "10,000,000": plain_figure(0.02)}
    drawn = ET.fromstring(growth_chart({"plan": sizes, "start": sizes}, TITLES))

    assert len(drawn.findall(f"{_SVG}polyline")) == 2
    assert len(drawn.findall(f"{_SVG}circle")) == 4
    assert "0.02 at 10,000,000." in (drawn.findtext(f"{_SVG}desc") or "")


def test_the_chart_of_no_results_is_valid() -> None:
    """The chart of a run without results is valid SVG, so that no exception ends such a run."""
    assert ET.fromstring(chart({}, "")).tag == f"{_SVG}svg"
    assert ET.fromstring(growth_chart({}, TITLES)).tag == f"{_SVG}svg"


def test_a_factor_of_ten_is_always_the_same_distance() -> None:
    """The scale of the chart is logarithmic: a factor of ten is the same distance everywhere."""
    scale = Scale(-2, 1)
    steps = [scale.x(10.0 ** (power + 1)) - scale.x(10.0**power) for power in (-2, -1, 0)]

    assert steps == pytest.approx([steps[0]] * 3)
    assert steps[0] > 0
