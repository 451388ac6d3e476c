"""Modules that every process uses; they import none of the other packages.

`clock` (the appliance's time), `reloading_file`, `signals`, `unix_http`, `hostnames`, `htpasswd`,
and for logging `logs`, `log_limit` and `log_once`.
"""
