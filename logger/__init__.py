"""Access log to stamps and traffic metrics: the one process that sees every request."""
