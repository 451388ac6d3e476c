"""Fill the values in which the events of equal pulls differ into the template of their JSON.

The function `request_line.split` reads the values of a pull from a log line. A template is the JSON
of an event with a separator in place of each value.
"""

from __future__ import annotations

from datetime import UTC, datetime

from entrepot.datastore.request_line import SEPARATOR


def template(*, target: str, rest: str) -> str:
    """Return a template for the events of equal pulls.

    *target* has the fields from the action to the begin of the request, and *rest* the fields after
    the client's address; both are JSON.
    """
    return (
        f'{{"id":"{SEPARATOR}","timestamp":"{SEPARATOR}Z",{target}"id":"{SEPARATOR}",'
        f'"addr":"{SEPARATOR}",{rest}'
    )


class PullTexts:
    """A `PullTexts` makes the events of one template; one thread may use it."""

    def __init__(self, template: str) -> None:
        self._parts = template.split(SEPARATOR)
        # PERF: the two attributes are the last second, and its text.
        self._second, self._at = "", ""

    def fill(self, values: str) -> str:
        """Return the JSON of the event with *values*.

        The event's ID is derived from the request's ID, so it is as unique, and always the same for
        a request.
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
