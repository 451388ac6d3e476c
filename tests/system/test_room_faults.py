"""While the cleaner is suspended, a push to a full cache fails; a later retry succeeds."""

from __future__ import annotations

import os
import signal

from entrepot.datastore.refs import Digest
from tests.images import filler, image
from tests.system.appliance import Setup
from tests.system.conftest import Start
from tests.system.images import KB, MB
from tests.system.pulls import pull
from tests.system.pushes import begin, push_blob
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

_MAXIMUM = 12 * MB
_BOUNDED = {"CLEANER_MAXSIZE": str(_MAXIMUM), "CLEANER_RUNEVERY_TIME": "1s"}


def test_a_push_while_the_cleaner_is_stopped_is_503_and_later_succeeds(
    start: Start, fake: FakeUpstream
) -> None:
    """While the cleaner is suspended, a push for which space is missing gets 503.

    A 507 would mean that a retry of the push cannot help.
    """
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=_BOUNDED))
    cleaner = appliance.program("cleaner")
    assert cleaner
    os.kill(cleaner.pid, signal.SIGSTOP)
    try:
        for number in range(_MAXIMUM * 120 // 100 // MB):
            made = image([filler(MB, number)], command=(str(number),))
            fake.put_image("app", f"v{number}", made)
            assert pull(appliance.http, "one.test/app", f"v{number}")
        content = filler(3 * MB, 99)
        where = f"{begin(appliance.http, 'team/app')}?digest={Digest.of(content)}"
        refused = appliance.http.request("PUT", where, body=content)
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
    finally:
        os.kill(cleaner.pid, signal.SIGCONT)

    eventually(
        lambda: appliance.http.request("PUT", where, body=content).status == 201,
        what="the same request succeeds",
        pause=0.5,
    )
    never = push_blob(appliance.http, "team/app", filler(_MAXIMUM + 100 * KB, 98))
    assert never.status == 507
