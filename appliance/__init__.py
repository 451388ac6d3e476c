"""Start, supervise and inspect the appliance with the command `entrepot`.

- `__main__` has the table of commands; each command has a module (`serve`, `check`, `status`,
  `clean`, `healthy`, `certs`, ...) or a package (`clients`, `doctor`, `migrate`).
- `health` runs the health checks of the setting `health:`.
- `supervise` runs HAProxy, the workers, the cleaner and the logger under supervisord.
- `privileges` drops root's rights, makes the service user the owner of the data directory, and
  copies secret files for that user.
- `rundir` creates and finds the run directory; `run_state` defines a file in it, for `status`.
"""
