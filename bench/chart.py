"""Draw the README's chart in SVG: the cost of docker-registry divided by that of Entrepot.

Each row has a bar that begins at 1 on a logarithmic scale. A bar to the right means that Entrepot
costs less. The colours of the text suit light and dark pages. The SVG contains a description that
states every number of the chart in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Figure
from bench.kinds import OURS, REGISTRY
from bench.rows import ROWS
from bench.table import number, unit
from bench.targets import Results

SHOWN = (
    "manifest-tag",
    "manifest-login",
    "worker-tag",
    "blob-middle",
    "blob-large",
    "cold-one",
    "cold-clients",
    "cold-line",
)
"""The rows of the benchmark that the chart shows, eight at most."""
_WIDTH, _LEFT, _RIGHT, _TOP, _STEP, _BAR = 880, 360, 130, 48, 40, 16
_BETTER, _WORSE = "#0f8a5f", "#c2571a"
_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.grid { stroke: #8b949e; stroke-opacity: .35 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9da7b3 } }"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the chart: the costs of Entrepot (`ours`) and of docker-registry (`theirs`)."""

    key: str
    ours: float
    theirs: float

    @property
    def times(self) -> float:
        """Return docker-registry's cost divided by that of Entrepot."""
        return self.theirs / self.ours

    @property
    def words(self) -> str:
        """Return the numbers of this row as a sentence for the chart's description."""
        row = ROWS[self.key]
        costs = f"{REGISTRY} {number(self.theirs)}, {OURS} {number(self.ours)} {unit(row.unit)}"
        return f"{row.title}: {costs}, {number(self.times)} times."


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic scale of cost ratios, from 10**`low` to 10**`high`."""

    low: int
    high: int

    def x(self, ratio: float) -> float:
        """Return the horizontal position of a cost ratio (pixels)."""
        share = (math.log10(ratio) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def chart(results: Results, subtitle: str) -> str:
    """Return the chart as SVG; a row without results of both servers is left out."""
    bars = list(_bars(results))
    scale = _scale([bar.times for bar in bars])
    height = _TOP + _STEP * len(bars) + 44
    parts = [
        '<text x="12" y="20">Cost of docker-registry divided by the cost of Entrepot</text>',
        *_grid(scale, len(bars)),
        *(part for at, bar in enumerate(bars) for part in _drawn(bar, at, scale)),
        f'<text class="small" x="12" y="{height - 10}">{escape(subtitle)}</text>',
    ]
    title = "The cost of docker-registry divided by the cost of Entrepot"
    words = " ".join(bar.words for bar in bars)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' aria-labelledby="title words">\n<title id="title">{title}</title>\n'
        f'<desc id="words">{escape(words)}</desc>\n'
        f"<style>\n{_STYLE}\n</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(results: Results) -> Iterator[Bar]:
    for key in SHOWN:
        ours, theirs = (_cost(results.get(key, {}).get(name)) for name in (OURS, REGISTRY))
        if ours and theirs:
            yield Bar(key, ours, theirs)


def _cost(figure: Figure | None) -> float:
    return 0.0 if figure is None or figure.failures else figure.cost


def _scale(ratios: Sequence[float]) -> Scale:
    low = math.floor(math.log10(min([*ratios, 1.0])))
    return Scale(low, max(math.ceil(math.log10(max([*ratios, 1.0]))), 1))


def _grid(scale: Scale, rows: int) -> Iterator[str]:
    bottom = _TOP + _STEP * rows
    for power in range(scale.low, scale.high + 1):
        x = scale.x(10.0**power)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 12}" y2="{bottom}"/>'
        words = f"{10**power:,}" if power >= 0 else f"1/{10**-power:,}"
        place = f'x="{x:.1f}" y="{bottom + 15}" text-anchor="middle"'
        yield f'<text class="small" {place}>{words}</text>'


def _drawn(bar: Bar, at: int, scale: Scale) -> Iterator[str]:
    y, row = _TOP + _STEP * at, ROWS[bar.key]
    yield f'<text x="12" y="{y + 11}">{escape(row.title)}</text>'
    yield f'<text class="small" x="12" y="{y + 24}">{unit(row.unit)}</text>'
    one, end = scale.x(1.0), scale.x(bar.times)
    left, width = min(one, end), max(abs(end - one), 1.0)
    colour = _BETTER if bar.times >= 1 else _WORSE
    place = f'x="{left:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}"'
    yield f'<rect {place} rx="2" fill="{colour}"/>'
    words = f"{number(bar.times)} ({number(bar.theirs)} : {number(bar.ours)})"
    yield f'<text class="small" x="{max(one, end) + 6:.1f}" y="{y + 12}">{words}</text>'
