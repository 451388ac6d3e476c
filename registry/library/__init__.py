"""Embed the registry in another Python program (`create_app` in `application`).

A program that embeds the registry has no HAProxy and no logger process: `access_tracker` writes
access times, `access_hook` reports accesses to the program, and `log_bridge` passes log records on.
"""
