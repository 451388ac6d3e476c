"""Start, watch and stop the processes of the appliance: supervisord and its programs.

- `supervisor_process` starts and stops supervisord; the module `supervisord` runs supervisord so
  that it forks the appliance's own programs.
- `programs` reads the states of the programs from supervisord.
- `environment` computes the variables that haproxy.cfg and supervisord.conf read.
- The modules `log_*` and `access_*` move HAProxy's access log into its files and onto stdout.
- `certificate_renewal` loads a renewed certificate into HAProxy.
"""
