"""Downloads from upstreams: one writer for each blob, its sources and what it proves."""
