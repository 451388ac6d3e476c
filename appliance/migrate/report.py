"""Report what a migration copied and what it could not copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

from entrepot.cleaner.readable_units import size

_MOST_LISTED: Final = 10_000


@dataclass(slots=True)
class Failure:
    """A `Failure` is a blob that was not copied, with the repositories that link it."""

    digest: str
    size: int
    outcome: str
    why: str
    repositories: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """A `Report` has the counts of one run; sizes are in bytes."""

    source: str
    target: str
    blobs: int = 0
    blob_bytes: int = 0
    copied_blobs: int = 0
    copied_bytes: int = 0
    values: int = 0
    copied_values: int = 0
    quarantined: int = 0
    ignored: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    failures: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stopped: str = ""

    @property
    def is_complete(self) -> bool:
        """Return whether the target has all content of the source."""
        return not (self.failures or self.problems or self.stopped)

    def fail(self, failure: Failure) -> None:
        """Add a blob that was not copied; only the first 10,000 such blobs are listed."""
        self.failures += 1
        if len(self.failed) < _MOST_LISTED:
            self.failed[failure.digest] = failure

    def problem(self, text: str) -> None:
        """Add a message about a problem; only the first 10,000 messages are listed."""
        if len(self.problems) < _MOST_LISTED:
            self.problems.append(text)

    def linked(self, digest: str, repository: str) -> None:
        """Record that a repository links a blob that was not copied."""
        found = self.failed.get(digest)
        if found is not None and len(found.repositories) < _MOST_LISTED:
            found.repositories.append(repository)


def as_text(report: Report) -> str:
    """Return the report as lines for an operator."""
    return "\n".join(_lines(report))


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    document = {
        "from": report.source,
        "to": report.target,
        "complete": report.is_complete,
        "stopped": report.stopped or None,
        "blobs": {
            "found": report.blobs,
            "bytes": report.blob_bytes,
            "copied": report.copied_blobs,
            "copied_bytes": report.copied_bytes,
        },
        "values": {"found": report.values, "copied": report.copied_values},
        "failed": [asdict(each) for each in report.failed.values()],
        "failures": report.failures,
        "problems": report.problems,
        "quarantined": report.quarantined,
        "ignored": report.ignored,
        "warnings": report.warnings,
    }
    return json.dumps(document, indent=1)


def _lines(report: Report) -> Iterator[str]:
    for each in report.failed.values():
        where = f", linked by {', '.join(each.repositories)}" if each.repositories else ""
        yield f"{each.digest}  {each.outcome}: {each.why}{where}"
    yield from report.problems
    yield from (f"warning: {each}" for each in report.warnings)
    yield f"from {report.source} to {report.target}"
    blobs = f"{report.copied_blobs} of {report.blobs} blobs copied ({size(report.copied_bytes)})"
    yield f"{blobs}, {report.copied_values} of {report.values} links, tags and other values copied"
    if report.quarantined:
        yield f"{report.quarantined} damaged files stay in the quarantine of the source"
    if report.ignored:
        yield f"{report.ignored} files of other programs were not copied"
    if report.failures:
        yield f"{report.failures} blobs were NOT copied"
    yield report.stopped or ("complete" if report.is_complete else "NOT complete")
