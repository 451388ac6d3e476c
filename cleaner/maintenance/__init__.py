"""Periodic maintenance: verification of stored content, and care of damaged files."""
