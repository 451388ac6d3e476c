"""This package runs periodic maintenance: verification of content, and care of damaged files."""
