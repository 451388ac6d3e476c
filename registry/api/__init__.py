"""HTTP in: one resource a file; Falcon is known here and in `registry.app` only."""
