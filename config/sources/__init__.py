"""Read the sources of settings: the YAML file, the environment and flags.

Names of settings that other programs use are translated here.
"""
