"""Read the sources of settings: the YAML file, the environment and flags.

This package also translates the settings of other programs, such as docker-cache-server.
"""
