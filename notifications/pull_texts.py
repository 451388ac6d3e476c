"""Create the JSON of events of pulls from a template and from the values of each pull.

If the same client pulls the same content several times, only a few values of the events differ. The
function `request_line.split` reads these values from a log line. A template is the JSON of an event
with a separator in place of each of these values.
"""

from __future__ import annotations

from datetime import UTC, datetime

from entrepot.datastore.request_line import SEPARATOR


def template(*, target: str, rest: str) -> str:
    """Return a template for pulls whose events differ only in the values that `fill` inserts.

    *target* is the JSON from the field `action` to the beginning of `request`. *rest* is the JSON
    after the address of the client.
    """
    return (
        f'{{"id":"{SEPARATOR}","timestamp":"{SEPARATOR}Z",{target}"id":"{SEPARATOR}",'
        f'"addr":"{SEPARATOR}",{rest}'
    )


class PullTexts:
    """A `PullTexts` creates the events of one template; only one thread can use it."""

    def __init__(self, template: str) -> None:
        self._parts = template.split(SEPARATOR)
        # PERF: the text of the date and time is reused for all events of the same second.
        self._second, self._at = "", ""

    def fill(self, values: str) -> str:
        """Return the JSON of the event with *values*.

        The ID of the event is computed from the ID of the request. So the ID of the event is
        unique, and always the same for the same request.
        """
        number, at, address, port = values.split(SEPARATOR)
        if at[:-3] != self._second:
            self._second = at[:-3]
            second = datetime.fromtimestamp(int(self._second), UTC)
            self._at = second.strftime("%Y-%m-%dT%H:%M:%S.")
        if ":" in address:  # IPv6
            address = f"[{address}]"
        first, before_time, before_id, before_address, rest = self._parts
        return (
            f"{first}{number[7::-1]}{number[8:]}{before_time}{self._at}{at[-3:]}{before_id}"
            f"{number}{before_address}{address}{port and ':'}{port}{rest}"
        )
