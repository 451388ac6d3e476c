"""Provide modules for all programs of the appliance, such as `clock` and `logs`.

These modules import no other package of Entrepot.
"""
