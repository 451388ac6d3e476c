"""Retention of pushed content: snapshot, reference counts, rules, and removal of images."""
