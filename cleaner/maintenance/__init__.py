"""Periodic maintenance of stored content: it is read again, and damaged files are looked after."""
