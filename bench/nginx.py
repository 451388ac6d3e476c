"""Configure nginx, which serves the images as static files; its cost is the lower limit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.address import ServerAddress
from bench.content import MEDIA_TYPE, Image, digest_of

NGINX_CONFIGURATION = "static files, sendfile, no access log, one worker per core, no passwords"
NGINX_DURABILITY = "writes nothing"

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_FILE = """\
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
{temporary}
    server {{
        listen 127.0.0.1:{port}{tls};
        root {static};
        default_type application/octet-stream;
        location ~ /manifests/ {{ default_type {media_type}; }}
        location = /ready {{ return 200; }}
    }}
}}
"""


def nginx_words(
    folder: Path, static: Path, *, port: int, pem: Path | None
) -> tuple[tuple[str, ...], str]:
    """Write nginx's configuration; return nginx's command line and a URL path.

    nginx is ready as soon as it answers a request for this path.
    """
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, static, port=port, pem=pem))
    return ("nginx", "-p", str(folder), "-e", "stderr", "-c", str(file)), "/ready"


def configuration(folder: Path, static: Path, *, port: int, pem: Path | None) -> str:
    """Return nginx.conf for a user who has write access only to *folder*."""
    temporary = [f"    {name}_temp_path {folder}/{name};" for name in _TEMPORARY]
    tls = f" ssl;\n        ssl_certificate {pem};\n        ssl_certificate_key {pem}" if pem else ""
    return _FILE.format(
        folder=folder,
        static=static,
        port=port,
        tls=tls,
        media_type=MEDIA_TYPE,
        temporary="\n".join(temporary),
    )


def lay_out(root: Path, images: Iterable[Image]) -> None:
    """Write manifests and blobs of images as files, whose paths are a registry's URL paths."""
    names = ServerAddress(0)
    for image in images:
        for reference in ("latest", image.digest):
            _write(root, names.manifest(image.repository, reference), image.manifest)
        for blob in image.blobs:
            _write(root, names.blob(image.repository, digest_of(blob)), blob)


def _write(root: Path, path: str, content: bytes) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
