"""Provide modules that every program of the appliance uses, such as `clock` and `logs`.

These modules import no other package of Entrepot.
"""
