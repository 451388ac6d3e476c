"""`entrepot status` prints the state of the running appliance on one screen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from entrepot import config
from entrepot.appliance import rundir, state_file
from entrepot.appliance.privileges import users
from entrepot.appliance.run_state import HitCounts
from entrepot.appliance.state_file import ClockStatus, EndpointStatus, Status
from entrepot.cleaner.readable_units import size, span
from entrepot.cleaner.shortage import REMEDY
from entrepot.runtime.clock import TRUSTED_AFTER_S
from entrepot.runtime.run_names import SETTINGS

_JSON = "--json"
_NOT_RUNNING = 1


def status(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the state of the appliance. Return 0, or 1 if no appliance runs on the data directory.

    Raises: ConfigError.
    """
    settings = config.load([word for word in argv if word != _JSON], environ).settings
    # The service user could put a symlink to any file into the data directory, and root would read
    # that file.
    users.step_down(environ)
    run = rundir.find(settings.storage.statedir)
    if run is None:
        sys.stderr.write(f"no appliance runs on {settings.storage.place}\n")
        return _NOT_RUNNING
    found = state_file.read(run) or _gathered(run)
    text = json.dumps(asdict(found), indent=1) if _JSON in argv else "\n".join(screen(found))
    sys.stdout.write(f"{text}\n")
    return 0


def _gathered(run: Path) -> Status:
    """Gather the state in this process, because `serve` has written no readable state in time."""
    from entrepot.appliance.overall_state import look  # noqa: PLC0415 - takes 0.2 s, rarely used

    return look(config.resolved({"ENTREPOT_SETTINGS": str(run / SETTINGS)}), time.time())


def screen(found: Status) -> Iterator[str]:
    """Yield the lines of the screen of `entrepot status`."""
    yield f"{found.url}, up {span(found.up)}, data in {found.data}"
    yield ""
    yield f"{'process':<10} {'state':<9} {'pid':>7} {'up':>8}  unexpected exits"
    for each in found.processes:
        up = span(each.up) if each.pid else "-"
        yield f"{each.name:<10} {each.state:<9} {each.pid or '-':>7} {up:>8}  {each.ends}"
    yield ""
    yield f"size       {_size(found)}"
    if found.shortage:
        yield f"problem    {found.shortage}:"
        yield f"           {REMEDY}"
    if found.disk:
        yield f"disk       {found.disk}"
    for number, (name, reason) in enumerate(found.checks.items()):
        what = f"requests get 503 because a check fails: {name}: {reason}"
        yield f"{'' if number else 'health':<10} {what}"
    yield f"traffic    {_traffic(found.counted)} since the start"
    yield f"log        {'not read yet' if found.lag is None else f'read, {span(found.lag)} behind'}"
    if found.index:
        yield f"index      {found.index}: new content is not stored, and nothing is evicted"
    if found.clock.offset:
        yield f"clock      {_clock(found.clock)}"
    for number, broken in enumerate(found.damaged):
        lost = f", lost: pushed to {', '.join(broken.pushed)}" if broken.pushed else ""
        what = f"{size(broken.size):>8} in quarantine{lost}"
        yield f"{'damaged' if number == 0 else '':<10} {broken.digest}  {what}"
    yield from _endpoints(found.endpoints)
    for number, (host, health) in enumerate(found.upstreams.items()):
        yield f"{'upstreams' if number == 0 else '':<10} {host}: {health}"
    for number, going in enumerate(found.store.next if found.store else ()):
        what = f"{going.kind:<8} {size(going.size):>8}, unused for {span(going.idle)}"
        yield f"{'evict next' if number == 0 else '':<10} {going.digest}  {what}"


def _endpoints(endpoints: Sequence[EndpointStatus]) -> Iterator[str]:
    for number, each in enumerate(endpoints):
        what = f"{each.pending} waiting, {each.dropped} dropped"
        yield f"{'events' if number == 0 else '':<10} {each.name}: {what}"


def _size(found: Status) -> str:
    held = f"{size(found.store.held)} in {found.store.count} blobs" if found.store else "unknown"
    if found.cap is None:
        return f"{held}, no limit"
    return f"{held}; kept below {size(found.maxsize)}, never more than {size(found.cap)}"


def _clock(found: ClockStatus) -> str:
    way = "ahead" if found.offset > 0 else "back"
    jumped = f"the wall clock jumped {span(abs(found.offset))} {way}"
    until = f"until the clock is correct, or has run for {span(TRUSTED_AFTER_S)} without a jump"
    return f"{jumped}: nothing is evicted by age {until}"


def _traffic(seen: HitCounts) -> str:
    total = seen.hits + seen.misses
    share = f", {100 * seen.hits // total} % hits" if total else ""
    return f"{seen.hits} hits, {seen.misses} misses{share}"
