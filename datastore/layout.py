"""Names to keys, pure: where everything lies below the data directory.

docker/registry/v2/                         docker distribution's own tree, byte for byte
    blobs/<alg>/<aa>/<hex>/data             content
    repositories/<name>/
        _layers/<alg>/<hex>/link            this repository may read that blob
        _manifests/revisions/<alg>/<hex>/link       ... that manifest
        _manifests/tags/<tag>/current/link          what the tag means now; its time: last confirmed
        _manifests/tags/<tag>/index/<alg>/<hex>/link    what it has meant
        _uploads/<id>/                      uploads that have not ended
scheduler-state.json                        what docker distribution's proxy fetched
entrepot/
    takeover                                how content of other programs was last taken over
    mediatypes/<name>/_types/<alg>/<hex>    what came with a manifest that states no media type
    types/<alg>/<aa>/<hex>                  the same for all repositories, of 0.1.0: only read
    proofs/<alg>/<aa>/<hex>/<host>          an upstream that has sent this content
    origin/<name>/_origin                   the upstream that a repository came from
    referrers/<name>/<alg>/<hex>            an upstream's last answer on a manifest's referrers
    referrers/<name>/_subjects/<alg>/<hex>/<alg>/<hex>  a pushed manifest's subject, then itself
    quarantine/<alg>/<hex>                  a stored file that is not what its digest names

In the state directory, which is entrepot/ too unless ENTREPOT_STATEDIR says otherwise:
    index.sqlite                            the access index
    spool/<alg>-<hex>                       a download that grows; renamed into blobs/ once verified
    spool/<alg>-<hex>.size                  how long it will be, in bytes, once that is known
    spool/boot                              the boot of the machine that wrote these downloads
    spool/locks/                            one file a manifest or tag that is being asked for
    spool/uploads/<id>.<name>               an upload that has not ended; its length: how far it is
    spool/uploads/<id>.<name>.digest        what is there of it, hashed
    spool/uploads/<id>.<name>.size          how long it will be, while a long body comes in
    spool/writing/<name>                    locked while links and tags of a repository are written
    spool/sweeping                          locked while content is removed
    spool/unproven/<alg>-<hex>              stored content that is still to be read once more
    scrub.json                              where the scrubber is
    log/                                    access.log, events.log
    clock                                   the time of the appliance, as its processes share it
"""

from __future__ import annotations

import hashlib

from entrepot.datastore.errors import Malformed
from entrepot.datastore.refs import Digest, Repository, Tag

V2 = "docker/registry/v2"
BLOBS = f"{V2}/blobs"
REPOSITORIES = f"{V2}/repositories"
FETCHED_LIST = "scheduler-state.json"
OWN = "entrepot"
TAKEOVER = f"{OWN}/takeover"
TYPES = f"{OWN}/types"
PROOFS = f"{OWN}/proofs"
MEDIA_TYPES = f"{OWN}/mediatypes"
ORIGINS = f"{OWN}/origin"
REFERRERS = f"{OWN}/referrers"
QUARANTINE = f"{OWN}/quarantine"
# in the state directory
INDEX = "index.sqlite"
CLOCK = "clock"
SPOOL = "spool"
BOOT = "spool/boot"
TURNS = "spool/locks"
UPLOADS = "spool/uploads"
WRITING = "spool/writing"
SWEEPING = "spool/sweeping"
UNVERIFIED = "spool/unproven"
SCRUB = "scrub.json"
ACCESS_LOG = "log/access.log"
EVENTS = "log/events.log"


def blob(digest: Digest) -> str:
    """Return the key of the content that *digest* names."""
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def blob_of(key: str) -> Digest | None:
    """Return the digest whose content lies under *key*: the inverse of `blob`."""
    try:
        digest = Digest.parse(":".join(key.split("/")[-4:-1:2]))
    except Malformed:
        return None
    return digest if blob(digest) == key else None


def repository(name: Repository) -> str:
    """Return the key below which all of a repository lies."""
    return f"{REPOSITORIES}/{name}"


def layer_link(name: Repository, digest: Digest) -> str:
    """Return the key of the permission to read a blob under a name."""
    return f"{layers(name)}/{digest.algorithm}/{digest.hex}/link"


def layers(name: Repository) -> str:
    """Return the key below which a repository's blobs are linked."""
    return f"{REPOSITORIES}/{name}/_layers"


def uploads(name: Repository) -> str:
    """Return the key below which a repository's uploads lie until they end."""
    return f"{REPOSITORIES}/{name}/_uploads"


def manifests(name: Repository) -> str:
    """Return the key below which a repository's manifests and tags are linked."""
    return f"{REPOSITORIES}/{name}/_manifests"


def revisions(name: Repository) -> str:
    """Return the key below which a repository's manifests are linked."""
    return f"{manifests(name)}/revisions"


def revision_link(name: Repository, digest: Digest) -> str:
    """Return the key of the permission to read a manifest under a name."""
    return f"{revisions(name)}/{digest.algorithm}/{digest.hex}/link"


def tags(name: Repository) -> str:
    """Return the key below which a repository's tags are named."""
    return f"{manifests(name)}/tags"


def tag_current(name: Repository, tag: Tag) -> str:
    """Return the key of what a tag means now."""
    return f"{tags(name)}/{tag}/current/link"


def tag_past(name: Repository, tag: Tag, digest: Digest) -> str:
    """Return the key of one thing that a tag has meant."""
    return f"{tags(name)}/{tag}/index/{digest.algorithm}/{digest.hex}/link"


def media_type(name: Repository, digest: Digest) -> str:
    """Return the key of the media type that came with a manifest of a repository."""
    return f"{MEDIA_TYPES}/{name}/_types/{digest.algorithm}/{digest.hex}"


def shared_media_type(digest: Digest) -> str:
    """Return the key of a manifest's media type as version 0.1.0 kept it, for all repositories."""
    return f"{TYPES}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def proofs(digest: Digest) -> str:
    """Return the key below which lie the upstreams that have sent some content."""
    return f"{PROOFS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def proof(digest: Digest, upstream: str) -> str:
    """Return the key that says that *upstream*, as a file's name, has sent some content."""
    return f"{proofs(digest)}/{upstream}"


def origin(name: Repository) -> str:
    """Return the key of the upstream that a repository came from."""
    return f"{ORIGINS}/{name}/_origin"


def origin_of(key: str) -> Repository | None:
    """Return the repository whose origin lies under *key*: the inverse of `origin`."""
    name = key.removeprefix(f"{ORIGINS}/").removesuffix("/_origin")
    try:
        return Repository.parse(name)
    except Malformed:
        return None


def referrers(name: Repository, digest: Digest) -> str:
    """Return the key of an upstream's last answer on a manifest's referrers."""
    return f"{REFERRERS}/{name}/{digest.algorithm}/{digest.hex}"


def subject(name: Repository, digest: Digest) -> str:
    """Return the key below which lies what was pushed about a manifest."""
    return f"{REFERRERS}/{name}/_subjects/{digest.algorithm}/{digest.hex}"


def referrer(name: Repository, about: Digest, digest: Digest) -> str:
    """Return the key of the descriptor of one manifest that was pushed about another."""
    return f"{subject(name, about)}/{digest.algorithm}/{digest.hex}"


def linked(key: str) -> Digest | None:
    """Return the digest that the link or the referrers under *key* are about, if it names one.

    The inverse of `layer_link`, `revision_link`, `tag_past`, `referrers`, `referrer` and
    `media_type`.
    """
    parts = key.removesuffix("/link").split("/")
    try:
        return Digest.parse(":".join(parts[-2:]))
    except Malformed:
        return None


def quarantined(digest: Digest) -> str:
    """Return the key of the damaged file that was stored under *digest*."""
    return f"{QUARANTINE}/{digest.algorithm}/{digest.hex}"


def quarantined_of(key: str) -> Digest | None:
    """Return the digest whose damaged file lies under *key*: the inverse of `quarantined`."""
    try:
        return Digest.parse(":".join(key.split("/")[-2:]))
    except Malformed:
        return None


def quarantine_promise(digest: Digest) -> Digest:
    """Return the digest under which room is promised to a file in quarantine."""
    return Digest.of(quarantined(digest).encode())


def spool(digest: Digest) -> str:
    """Return the name, in the spool folder, of a download that grows."""
    return f"{digest.algorithm}-{digest.hex}"


def spool_key(digest: Digest, upstream: str) -> Digest:
    """Return what stands for a download that only this upstream's repositories may join.

    Its spool file and the room that is promised to it are known by it.
    """
    return Digest.of(f"{upstream}\0{digest}".encode())


def spool_of(name: str) -> Digest | None:
    """Return the digest that the spool file *name* grows towards: the inverse of `spool`."""
    try:
        return Digest.parse(name.replace("-", ":", 1))
    except Malformed:
        return None


def spool_size(digest: Digest) -> str:
    """Return the name, in the spool folder, of how long a download will be."""
    return f"{spool(digest)}.size"


def upload(name: Repository, number: str) -> str:
    """Return the file name, in the folder of uploads, of one upload to a repository."""
    return f"{number}.{short(name)}"


def upload_digest(file: str) -> str:
    """Return the name of the file beside an upload's that says what it hashes to."""
    return f"{file}.digest"


def upload_size(file: str) -> str:
    """Return the name of the file beside an upload's that tells how long it will be."""
    return f"{file}.size"


def upload_promise(file: str) -> Digest:
    """Return the digest under which room is promised to the upload of that file name."""
    return Digest.of(file.encode())


def short(name: Repository) -> str:
    """Return what stands for a repository where a path has no room for its name."""
    return hashlib.sha256(name.name.encode()).hexdigest()[:32]
