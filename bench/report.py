"""Write the results of a run: tables, JSON, the chart, and the table for the README."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import machine
from bench.chart import chart
from bench.figures import Figure, figure
from bench.growth import NOTES, TITLES
from bench.growth_chart import growth_chart
from bench.kinds import NGINX, OURS, REGISTRY, Kind
from bench.measure import Book
from bench.rows import ROWS
from bench.table import aligned, growth_table, markdown, number, table, verdicts
from bench.targets import DIRECT, GROWTH_TARGETS, TARGETS, Results, Verdict, beaten_by, judge


def write(out: Path, book: Book, chosen: Sequence[Kind]) -> int:
    """Print and write the results of a run; return 1 if a measurement failed, else 0."""
    results = medians(book)
    judged = [judge(target, results) for target in TARGETS if target.row in book.rows]
    facts = machine.described() | {"took": f"{time.monotonic() - book.began:.0f} s"}
    _print_head(facts, chosen)
    print(table(results, book.failed), end="\n\n")
    print(verdicts(judged, {key: row.title for key, row in ROWS.items()}))
    print(_beaten(results, peers(chosen)))
    document = {
        "machine": facts,
        "versions": machine.versions(),
        "servers": {each.name: [each.configuration, each.durability] for each in chosen},
        "rows": {key: _row(key, servers) for key, servers in results.items()},
        "failed": book.failed,
        "targets": [_verdict(each) for each in judged],
    }
    _write(out / "bench.json", json.dumps(document, indent=1) + "\n")
    _write(out / "bench.svg", chart(results, _subtitle(facts)))
    _write(out / "bench.md", markdown(results, [REGISTRY, *peers(chosen), NGINX, DIRECT, OURS]))
    return 1 if book.failed or _failures(results) else 0


def write_growth(out: Path, results: Results) -> int:
    """Print and write the results of `growth`; targets are compared with the largest index."""
    largest = {row: {OURS: list(sizes.values())[-1]} for row, sizes in results.items()}
    judged = [judge(target, largest) for target in GROWTH_TARGETS]
    facts = machine.described()
    print(aligned([(f"{name}:", words) for name, words in facts.items()]))
    print("\n".join(f"- {note}" for note in NOTES), end="\n\n")
    print(growth_table(results, TITLES), end="\n\n")
    print(verdicts(judged, TITLES))
    document = {
        "machine": facts,
        "notes": NOTES,
        "rows": {
            key: {size: asdict(one) for size, one in row.items()} for key, row in results.items()
        },
        "targets": [_verdict(each) for each in judged],
    }
    _write(out / "growth.json", json.dumps(document, indent=1) + "\n")
    _write(out / "growth.svg", growth_chart(results, TITLES))
    return 0


def medians(book: Book) -> dict[str, dict[str, Figure]]:
    """Return the figures of all samples, by row, then by server."""
    return {
        key: {name: figure(ROWS[key].unit, each) for name, each in servers.items()}
        for key, servers in book.samples.items()
    }


def peers(chosen: Sequence[Kind]) -> list[str]:
    """Return the names of the servers that BENCH_PEERS and BENCH_REGISTRY3 add."""
    return [each.name for each in chosen if each.name not in {REGISTRY, NGINX, OURS}]


def _print_head(facts: Mapping[str, str], chosen: Sequence[Kind]) -> None:
    words = [*facts.items(), *machine.versions().items()]
    print(aligned([(f"{name}:", text) for name, text in words]), end="\n\n")
    configurations = [
        (each.name, f"{each.configuration}; durability: {each.durability}") for each in chosen
    ]
    print(aligned(configurations), end="\n\n")


def _beaten(results: Results, names: list[str]) -> str:
    """Return text with a line for each row in which a peer costs less than Entrepot."""
    lines = [
        f"{ROWS[key].title}: {peer} costs less; entrepot costs {number(times)} times as much"
        for key in results
        for peer, times in beaten_by(key, results, names).items()
    ]
    return "\n".join(["", *lines]) if lines else ""


def _failures(results: Results) -> int:
    return sum(one.failures for servers in results.values() for one in servers.values())


def _row(key: str, servers: Mapping[str, Figure]) -> dict[str, object]:
    row = ROWS[key]
    figures = {name: asdict(one) for name, one in servers.items()}
    return {"title": row.title, "unit": row.unit, "note": row.note, "servers": figures}


def _verdict(verdict: Verdict) -> dict[str, object]:
    return asdict(verdict.target) | {"ours": verdict.ours, "met": verdict.is_met}


def _subtitle(facts: Mapping[str, str]) -> str:
    versions = f"docker-registry {machine.versions()[REGISTRY]}; {facts['processor']}"
    today = time.strftime("%Y-%m-%d")
    return f"{versions}; cost: CPU time of all processes, for the cold pull: time; {today}"


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    print(f"wrote bench/out/{path.name}")
