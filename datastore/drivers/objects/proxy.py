"""Choose the proxy for requests to an object storage, by the same rules as for upstreams."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from entrepot.runtime import outbound
from entrepot.runtime.proxies import Proxies

_UNUSED: Final = "http://127.0.0.1:9"


def proxy_options(url: str) -> dict[str, Any]:
    """Return obstore's options for the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY select.

    *url* is the URL of the storage. The URL of a proxy can contain a password. Therefore `serve`
    removes the passwords from these variables before it starts its programs, and writes the
    complete URLs to a file in the run directory (ENTREPOT_RUN). A program that `serve` did not
    start reads the variables from its environment.
    """
    run = os.environ.get("ENTREPOT_RUN")
    found = outbound.handed_over(Path(run)) if run else outbound.of_environment()
    proxy = Proxies(found.proxies, found.exempt).choose(url)
    if proxy is None:
        # Without these options obstore would read the variables itself, and would use a proxy even
        # for a loopback address.
        return {"proxy_url": _UNUSED, "proxy_excludes": urlsplit(url).hostname}
    return {"proxy_url": proxy}
