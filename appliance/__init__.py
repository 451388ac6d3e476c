"""Starts and inspects the whole: the `entrepot` command."""
