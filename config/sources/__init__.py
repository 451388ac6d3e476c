"""Settings come from the YAML file, the environment, flags, and other programs' names."""
