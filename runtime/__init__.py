"""Every process uses these modules, which import no other package of Entrepot.

The modules are `clock` (the appliance's time), `reloading_file`, `signals`, `unix_socket`,
`hostnames`, `htpasswd`, and for logging `logs`, `log_limit`,
`log_once` and `rare_lines`.
"""
