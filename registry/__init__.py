"""The HTTP registry: api (HTTP in) -> pullthrough (the algorithm) -> upstream (HTTP out)."""
