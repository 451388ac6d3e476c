"""Define the text of a row of the queue, which has one event or several events of pulls.

A line of a row is the JSON of an event, or the values of a pull (`request_line.split`). A line
before the values of pulls names their template: `=` and the template, or `=` and the number of an
earlier template. JSON contains no line break and no tab, and does not begin with `=`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from entrepot.datastore.request_line import SEPARATOR
from entrepot.notifications.events import Notification
from entrepot.notifications.pull_texts import PullTexts

_TEMPLATE = "="


def write(events: Sequence[Notification]) -> str:
    """Return the text of a row of the queue with *events*."""
    lines: list[str] = []
    numbers: dict[str, int] = {}
    last: str | None = None
    for _, _, template, values in events:
        if not values:
            lines.append(template)
            continue
        if template is not last:
            last = template
            number = numbers.get(template)
            numbers.setdefault(template, len(numbers))
            lines.append(f"{_TEMPLATE}{template if number is None else number}")
        lines.append(values)
    return "\n".join(lines)


def read(body: str, first: int, most: int, most_bytes: int) -> list[str]:
    """Return the JSON of events of a row, from the event with the number *first*, counted from 0.

    The returned list has at most *most* events, and after the first event at most *most_bytes* in
    all.
    """
    found: list[str] = []
    texts: list[PullTexts] = []
    fill: Callable[[str], str] = str
    left = most_bytes
    for line in body.split("\n"):
        if line.startswith(_TEMPLATE):
            fill = _named(line[1:], texts).fill
        elif first > 0:
            first -= 1
        else:
            event = fill(line) if SEPARATOR in line else line
            left -= len(event)
            if found and (left < 0 or len(found) == most):
                break
            found.append(event)
    return found


def _named(name: str, texts: list[PullTexts]) -> PullTexts:
    """Return the texts of a template, or of the number of a template; add a new one to *texts*."""
    if name.isdecimal():
        return texts[int(name)]
    texts.append(PullTexts(name))
    return texts[-1]
