"""Write the overall state of the appliance while readers request it.

The command is `python -m MODULE RUN`, with this module as MODULE and the run directory as RUN.
`serve` starts this program after a request (appliance/supervise/state_process.py). The program
exits a minute after the last request.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from entrepot import config
from entrepot.appliance import state_file
from entrepot.appliance.overall_state import look
from entrepot.runtime import logs
from entrepot.runtime.parent_death import end_with_parent
from entrepot.runtime.run_names import SETTINGS


def main() -> None:
    """Write the state of the appliance whose run directory is the first argument."""
    end_with_parent(signal.SIGKILL)  # SIGTERM would have no effect: `serve` has blocked it.
    run = Path(sys.argv[1])
    settings = config.resolved({"ENTREPOT_SETTINGS": str(run / SETTINGS)})
    log = settings.log
    logs.configure(
        log.level, log.formatter, "serve", fields=log.fields, has_caller=log.reportcaller
    )
    state_file.write_while_requested(run, lambda: look(settings, time.time()))


if __name__ == "__main__":
    main()
