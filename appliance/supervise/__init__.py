"""Start, watch and stop the processes of the appliance: supervisord and its programs.

`supervisor_process` owns supervisord. `supervisord` runs supervisord and forks our own programs.
`programs` reads the state of what it runs, `environment` renders the variables that haproxy.cfg and
supervisord.conf read, `log_*` carry HAProxy's access log into its files, and `certificate_renewal`
loads a renewed certificate into HAProxy.
"""
