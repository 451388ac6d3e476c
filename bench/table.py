"""Format figures as text: a table of all results, and a table of the targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.figures import Figure, Unit
from bench.rows import ROWS
from bench.targets import Results, Verdict

_MISSED, _MET, _UNMEASURED = "MISSED", "met", "NOT MEASURED"
_HEADINGS = ("", "server", "cost", "least-most", "rate", "p99", "upstream a round", "more")


def table(results: Results, failed: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table of all results, with a line for each row and server."""
    lines: list[Sequence[str]] = [_HEADINGS]
    for key, row in ROWS.items():
        found = results.get(key, {})
        if not found and key not in failed:
            continue
        lines.append((f"{row.title}; {row.unit}",))
        lines += [("", name, *_cells(row.unit, figure)) for name, figure in found.items()]
        lines += [("", name, f"FAILED: {why}") for name, why in failed.get(key, {}).items()]
    return aligned(lines)


def verdicts(judged: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """Return the table of the targets, with a line for each target."""
    lines: list[Sequence[str]] = [("target", "", "ours", "at most", "")]
    for each in judged:
        target = each.target
        what = f"x {target.against}" if target.against else ""
        what = f"{target.figure} {what}".strip() if target.figure != "cost" else what
        ours = number(each.ours) if each.ours is not None else "-"
        lines.append((titles[target.row], what, ours, number(target.most), word(each)))
    return aligned(lines)


def word(verdict: Verdict) -> str:
    """Return a short word that states whether the target is met."""
    if verdict.ours is None:
        return _UNMEASURED
    if verdict.failures:
        return f"FAILED {verdict.failures:,} times"
    return _MET if verdict.is_met else _MISSED


def markdown(results: Results, servers: Sequence[str]) -> str:
    """Return the table for the README, in Markdown."""
    lines = [f"| | | {' | '.join(servers)} |", "|---|---|" + "---|" * len(servers)]
    for key, row in ROWS.items():
        if found := results.get(key):
            cells = [_cell(found[each]) if each in found else "" for each in servers]
            lines.append(f"| {row.title} | {unit(row.unit)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def growth_table(results: Results, titles: Mapping[str, str]) -> str:
    """Return the table of growth, with a line for each row and a column for each index size."""
    sizes = list(dict.fromkeys(size for row in results.values() for size in row))
    lines: list[Sequence[str]] = [("", *sizes, "more, at the largest size")]
    for key, row in results.items():
        cells = [number(row[size].cost) if size in row else "-" for size in sizes]
        more = list(row.values())[-1].more.items()
        beside = ", ".join(f"{name} {number(each)}" for name, each in more)
        lines.append((titles[key], *cells, beside))
    return aligned(lines)


def number(value: float) -> str:
    """Return a number with three significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def unit(text: str) -> str:
    """Return a unit as the README writes it, with µs for us."""
    return text.replace("us", "µs")


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Return the lines as text with aligned columns; the last cell of a line is not padded."""
    rows = list(lines)
    widths: dict[int, int] = {}
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, 0), len(cell))
    return "\n".join(
        "  ".join([*(cell.ljust(widths[at]) for at, cell in enumerate(row[:-1])), row[-1]]).rstrip()
        for row in rows
    )


def _cell(figure: Figure) -> str:
    """Return a figure's cost for a table, with the number of failures if there are any."""
    failed = f" ({figure.failures:,} failures)" if figure.failures else ""
    return number(figure.cost) + failed


def _cells(of: Unit, figure: Figure) -> tuple[str, ...]:
    return (
        number(figure.cost),
        f"{number(figure.least)}-{number(figure.most)}" if figure.most > figure.least else "",
        _rate(of, figure),
        f"{number(figure.p99 * 1e6)} us" if figure.p99 else "",
        _fetched(figure),
        _beside(figure),
    )


def _rate(of: Unit, figure: Figure) -> str:
    if not figure.rate:
        return ""
    per = "/s" if of in {Unit.REQUEST, Unit.LATENCY} else " GB/s"
    return number(figure.rate) + per


def _fetched(figure: Figure) -> str:
    fetched = figure.fetched
    if not fetched.requests:
        return ""
    return f"{fetched.requests} requests, {fetched.sent / 1e6:.1f} MB"


def _beside(figure: Figure) -> str:
    words = [f"{name} {number(each)}" for name, each in figure.more.items()]
    if figure.failures:
        words.insert(0, f"FAILURES: {figure.failures}")
    largest = sorted(figure.shares.items(), key=lambda share: -share[1])
    if len(largest) > 1:
        words += [f"{name} {number(each)}" for name, each in largest if each > 0]
    return ", ".join(words)
