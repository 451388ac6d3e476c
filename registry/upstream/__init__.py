"""HTTP out: other registries, their credentials and their tokens."""
