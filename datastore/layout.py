"""Map names to storage keys, without I/O, and list the files of the data directory.

docker/registry/v2/                         the same files as docker distribution's, byte for byte
    blobs/<alg>/<aa>/<hex>/data             content
    repositories/<name>/
        _layers/<alg>/<hex>/link            permits the repository to serve that blob
        _manifests/revisions/<alg>/<hex>/link       permits the repository to serve that manifest
        _manifests/tags/<tag>/current/link          the tag's digest (links.py has its time)
        _manifests/tags/<tag>/index/<alg>/<hex>/link    each digest the tag has had
        _uploads/<id>/                      uploads in progress of docker distribution
scheduler-state.json                        list of content that docker distribution's proxy fetched
entrepot/
    takeover                                mode of the latest takeover of content
    mediatypes/<name>/_types/<alg>/<hex>    received media type of a manifest that states none
    types/<alg>/<aa>/<hex>                  the same type, as 0.1.0 stored it for all repositories
    proofs/<alg>/<aa>/<hex>/<host>          name of an upstream that has sent this content
    origin/<name>/_origin                   name of the upstream that a repository came from
    referrers/<name>/<alg>/<hex>            latest list of a manifest's referrers from an upstream
    referrers/<name>/_subjects/<alg>/<hex>/<alg>/<hex>  descriptor of a pushed referrer
    quarantine/<alg>/<hex>                  a stored file that does not match its digest
    owner                                   in a bucket: the appliance that owns the bucket
    index/<xx>                              in a bucket: a shard of the snapshot of the index

The state directory is entrepot/ too, unless ENTREPOT_STATEDIR is set. It has these files:
    index.sqlite                            the index
    ballast                                 reserved space, freed if the disk is full at the start
    run                                     path of the run directory; locked by the appliance
    spool/<alg>-<hex>                       a download in progress; commit renames it into blobs/
    spool/<alg>-<hex>.size                  the full length of this download in bytes, once known
    spool/boot                              ID of the boot during which these files were written
    spool/locks/                            a lock for each manifest or tag that is being fetched
    spool/uploads/<id>.<name>               the bytes of an upload that have been received so far
    spool/uploads/<id>.<name>.digest        the digest of these bytes
    spool/uploads/<id>.<name>.size          the final length, while a long body is received
    spool/writing/<name>                    locked while links and tags of a repository are written
    spool/sweeping                          locked while the cleaner deletes content
    spool/kept/<token>                      copy of a value that a late request may delete
    spool/unproven/<alg>-<hex>              marks stored content that must be read and hashed once
    scrub.json                              position of the scrubber
    log/                                    access.log, events.log
    clock                                   the time of the appliance, shared by its processes
    token-key.pem                           the key that signs tokens of auth.htpasswd.token
    notifications.sqlite                    events that have not been delivered yet
    bucket.sqlite                           the journal of the bucket: which objects it has
    bucket-owner.json                       the claim of this appliance on the bucket
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
SNAPSHOT = f"{OWN}/index"
# The following keys are file names in the state directory.
INDEX = "index.sqlite"
CLOCK = "clock"
TOKEN_KEY = "token-key.pem"  # noqa: S105 - the name of a file
NOTIFICATIONS = "notifications.sqlite"
BUCKET_JOURNAL = "bucket.sqlite"
BUCKET_OWNER = "bucket-owner.json"
SPOOL = "spool"
BOOT = "spool/boot"
PULL_LOCKS = "spool/locks"
UPLOADS = "spool/uploads"
KEPT = "spool/kept"
WRITE_LOCKS = "spool/writing"
SWEEP_LOCK = "spool/sweeping"
UNVERIFIED = "spool/unproven"
SCRUB = "scrub.json"
ACCESS_LOG = "log/access.log"
EVENTS = "log/events.log"


def blob(digest: Digest) -> str:
    """Return the key of the content of *digest*."""
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def blob_of(key: str) -> Digest | None:
    """Return the digest of the content with the key *key*, or None: the inverse of `blob`."""
    try:
        digest = Digest.parse(":".join(key.split("/")[-4:-1:2]))
    except Malformed:
        return None
    return digest if blob(digest) == key else None


def repository(name: Repository) -> str:
    """Return the key below which docker distribution's files of a repository are."""
    return f"{REPOSITORIES}/{name}"


def repository_of(key: str) -> Repository | None:
    """Return the repository in whose folder a key is; None if the key is in no such folder."""
    if not key.startswith(f"{REPOSITORIES}/"):
        return None
    name, separator, _ = key.removeprefix(f"{REPOSITORIES}/").partition("/_")
    return Repository(name) if separator else None


def layer_link(name: Repository, digest: Digest) -> str:
    """Return the key of the link that permits a repository to serve a blob."""
    return f"{layers(name)}/{digest.algorithm}/{digest.hex}/link"


def layers(name: Repository) -> str:
    """Return the key below which a repository's links to blobs are."""
    return f"{REPOSITORIES}/{name}/_layers"


def uploads(name: Repository) -> str:
    """Return the key below which docker distribution's uploads to a repository are."""
    return f"{REPOSITORIES}/{name}/_uploads"


def manifests(name: Repository) -> str:
    """Return the key below which a repository's tags and links to manifests are."""
    return f"{REPOSITORIES}/{name}/_manifests"


def revisions(name: Repository) -> str:
    """Return the key below which a repository's links to manifests are."""
    return f"{manifests(name)}/revisions"


def revision_link(name: Repository, digest: Digest) -> str:
    """Return the key of the link that permits a repository to serve a manifest."""
    return f"{revisions(name)}/{digest.algorithm}/{digest.hex}/link"


def revision_of(key: str) -> tuple[Repository, Digest] | None:
    """Return the repository and the digest of a link to a manifest, or None.

    This function is the inverse of `revision_link`.
    """
    name, separator, rest = key.removeprefix(f"{REPOSITORIES}/").partition("/_manifests/revisions/")
    if not separator:
        return None
    try:
        found = Repository.parse(name), Digest.parse(rest.removesuffix("/link").replace("/", ":"))
    except Malformed:
        return None
    return found if revision_link(*found) == key else None


def tags(name: Repository) -> str:
    """Return the key below which a repository's tags are."""
    return f"{manifests(name)}/tags"


def tag_current(name: Repository, tag: Tag) -> str:
    """Return the key of a tag's current digest."""
    return f"{tags(name)}/{tag}/current/link"


def tag_past(name: Repository, tag: Tag, digest: Digest) -> str:
    """Return the key that records that a tag has or had this digest."""
    return f"{tags(name)}/{tag}/index/{digest.algorithm}/{digest.hex}/link"


def media_type(name: Repository, digest: Digest) -> str:
    """Return the key of the media type that was received with a manifest of a repository."""
    return f"{MEDIA_TYPES}/{name}/_types/{digest.algorithm}/{digest.hex}"


def shared_media_type(digest: Digest) -> str:
    """Return the key under which version 0.1.0 stored the media type of a manifest.

    In 0.1.0, all repositories shared this media type.
    """
    return f"{TYPES}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def proofs(digest: Digest) -> str:
    """Return the key of the folder with the names of the upstreams that have sent *digest*."""
    return f"{PROOFS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def proof(digest: Digest, upstream: str) -> str:
    """Return the key that records that *upstream* (as a file name) has sent *digest*."""
    return f"{proofs(digest)}/{upstream}"


def origin(name: Repository) -> str:
    """Return the key of the upstream that a repository came from."""
    return f"{ORIGINS}/{name}/_origin"


def origin_of(key: str) -> Repository | None:
    """Return the repository whose origin has the key *key*, or None: the inverse of `origin`."""
    name = key.removeprefix(f"{ORIGINS}/").removesuffix("/_origin")
    try:
        return Repository.parse(name)
    except Malformed:
        return None


def referrers(name: Repository, digest: Digest) -> str:
    """Return the key of the latest list of a manifest's referrers that an upstream has sent."""
    return f"{REFERRERS}/{name}/{digest.algorithm}/{digest.hex}"


def subject(name: Repository, digest: Digest) -> str:
    """Return the key below which the pushed referrers of a manifest are."""
    return f"{REFERRERS}/{name}/_subjects/{digest.algorithm}/{digest.hex}"


def referrer(name: Repository, about: Digest, digest: Digest) -> str:
    """Return the key of the descriptor of one pushed manifest that refers to *about*."""
    return f"{subject(name, about)}/{digest.algorithm}/{digest.hex}"


def linked_digest(key: str) -> Digest | None:
    """Return the digest at the end of a key, or None.

    The key must be one that `layer_link`, `revision_link`, `tag_past`, `referrers`, `referrer` or
    `media_type` returned.
    """
    parts = key.removesuffix("/link").split("/")
    try:
        return Digest.parse(":".join(parts[-2:]))
    except Malformed:
        return None


def quarantined(digest: Digest) -> str:
    """Return the key under which damaged content of *digest* is in quarantine."""
    return f"{QUARANTINE}/{digest.algorithm}/{digest.hex}"


def quarantined_of(key: str) -> Digest | None:
    """Return the digest of a key in quarantine, or None: the inverse of `quarantined`."""
    try:
        return Digest.parse(":".join(key.split("/")[-2:]))
    except Malformed:
        return None


def quarantine_reservation(digest: Digest) -> Digest:
    """Return the digest that identifies the reservation of a file in quarantine."""
    return Digest.of(quarantined(digest).encode())


def spool(digest: Digest) -> str:
    """Return the name of the spool file of a download."""
    return f"{digest.algorithm}-{digest.hex}"


def spool_key(digest: Digest, upstream: str) -> Digest:
    """Return the digest that identifies the spool file and the reservation of a download.

    The returned digest depends on *upstream* too, so that only requests for repositories of this
    upstream share the download.
    """
    return Digest.of(f"{upstream}\0{digest}".encode())


def spool_of(name: str) -> Digest | None:
    """Return the digest in the name of a spool file, or None: the inverse of `spool`."""
    try:
        return Digest.parse(name.replace("-", ":", 1))
    except Malformed:
        return None


def spool_size(digest: Digest) -> str:
    """Return the name of the file in the spool folder that contains the length of a download."""
    return f"{spool(digest)}.size"


def upload(name: Repository, number: str) -> str:
    """Return the name of the spool file of one upload to a repository."""
    return f"{number}.{short_name(name)}"


def upload_digest(file: str) -> str:
    """Return the name of the file that contains the digest of an upload's received bytes."""
    return f"{file}.digest"


def upload_size(file: str) -> str:
    """Return the name of the file that contains the number of bytes reserved for an upload."""
    return f"{file}.size"


def upload_reservation(file: str) -> Digest:
    """Return the digest that identifies the reservation of the upload with the file name *file*."""
    return Digest.of(file.encode())


def short_name(name: Repository) -> str:
    """Return a short and unique hash of a repository's name, for use in file names."""
    return hashlib.sha256(name.name.encode()).hexdigest()[:32]
