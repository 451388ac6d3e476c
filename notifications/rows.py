"""Write and read the text of a row of the queue.

A row has one event, or several events of pulls. A row consists of lines. There are three kinds of
lines:

- the JSON of an event;
- `=` and a template, or `=` and the number of an earlier template of this row;
- the values of one pull (the first part of a `request_line.Head`), with tabs between them. These
  values belong to the template of the nearest line above that begins with `=`.

The kinds can be distinguished: JSON contains no line break and no tab, and does not begin with `=`;
the values of a pull contain tabs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from entrepot.datastore.request_line import SEPARATOR
from entrepot.notifications.events import Notification
from entrepot.notifications.pull_texts import PullTexts

_TEMPLATE = "="


def write(events: Sequence[Notification]) -> str:
    """Return the text of a row that has *events*."""
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
    """Return the JSON of the events of a row from number *first* on; the numbers begin at 0.

    Return at most *most* events, with at most *most_bytes* in total. At least one event is
    returned, even if it is larger than *most_bytes*.
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
    """Return the `PullTexts` of a template or of its number; add it to *texts* if it is new."""
    if name.isdecimal():
        return texts[int(name)]
    texts.append(PullTexts(name))
    return texts[-1]
