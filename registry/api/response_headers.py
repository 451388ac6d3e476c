"""What every answer carries, whoever made it."""

from __future__ import annotations

import falcon

from entrepot.registry.api import cache_status, response_body

_MADE_HERE = cache_status.neither()


class ResponseHeaders:
    """Falcon middleware: two headers on every answer, and no open file behind a HEAD's.

    A large body from memory is sent as a file is: no client keeps the thread that sends it.
    """

    def process_response(self, req: falcon.Request, resp: falcon.Response, *_: object) -> None:
        """Add what the resource did not say."""
        # clients take a registry without it for one of the first version
        resp.set_header("Docker-Distribution-Api-Version", "registry/2.0")
        if resp.get_header("Cache-Status") is None:
            resp.set_header("Cache-Status", _MADE_HERE)
        if req.method == "HEAD" and resp.stream is not None:
            _close(resp)
        elif resp.data is not None:
            response_body.send_large(req, resp)


def _close(resp: falcon.Response) -> None:
    """Close the body that Falcon will not send; its length stays announced."""
    close = getattr(resp.stream, "close", None)
    resp.stream = ()  # not None: that would announce a length of 0
    if close is not None:
        close()
