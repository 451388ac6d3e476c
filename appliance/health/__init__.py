"""Runs the checks of `health:` in `entrepot serve`, and closes the API while one of them fails."""
