"""Every process uses these modules, which import none of the other packages.

The modules are `clock` (the appliance's time), `reloading_file`, `signals`, `unix_http`,
`hostnames`, `htpasswd`, and for logging `logs`, `log_limit` and `log_once`.
"""
