"""Start, watch and stop the processes of the appliance: supervisord and its programs.

`supervisor_process` owns supervisord. `supervisord` runs supervisord and forks our own programs.
`programs` reads the states of the programs, `environment` computes the variables that haproxy.cfg
and supervisord.conf read, the modules `log_*` carry HAProxy's access log into its files, and
`certificate_renewal` loads a renewed certificate into HAProxy.
"""
