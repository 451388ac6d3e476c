"""Start, supervise and inspect the appliance with the command `entrepot`.

- `__main__` has the table of commands; each command has a module (`serve`, `check`, `status`,
  `clean`, `healthy`, `certs`, and the packages `clients` and `doctor`).
- `supervise` runs HAProxy, the workers, the cleaner and the logger under supervisord.
- `privileges` drops root's rights, and gives the serving user its folders and secrets.
- `rundir` and `run_state` have the run directory, and the facts in it for `status`.
"""
