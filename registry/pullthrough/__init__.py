"""The algorithm of a pull: hit, join or fetch."""
