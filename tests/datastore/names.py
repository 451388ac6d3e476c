"""Define Hypothesis strategies for valid digests, tags and repository names."""

from __future__ import annotations

from hypothesis import strategies as st

from entrepot.datastore.refs import Digest, Repository, Tag

digests = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True).map(Tag.parse)
_component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
repositories = (
    st.lists(_component, min_size=1, max_size=5).map("/".join).filter(lambda name: len(name) < 256)
).map(Repository.parse)
