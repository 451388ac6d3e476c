"""The `entrepot` command: starts, supervises and inspects the appliance.

- `__main__` has the table of commands; each has a module (`serve`, `check`, `status`, `clean`,
  `healthy`, `certs`, and the packages `clients` and `doctor`)
- `supervise`: runs HAProxy, the workers, the cleaner and the logger under supervisord
- `privileges`: drops root's rights, and gives the serving user its folders and secrets
- `rundir`, `run_state`: the run directory, and the facts that `serve` writes there for `status`
"""
