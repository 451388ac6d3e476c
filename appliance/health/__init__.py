"""Run the checks of `health:` in `entrepot serve`, and close the API while a check fails."""
