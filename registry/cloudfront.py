"""Sign URLs of CloudFront with a canned policy, as docker distribution's middleware does."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

# Amazon CloudFront Developer Guide, "Creating a signature for a signed URL that uses a canned
# policy": the policy contains no blanks, and in the signature other characters replace those that a
# query must not contain.
_POLICY = (
    '{{"Statement":[{{"Resource":"{}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{}}}}}}}]}}'
)
_IN_QUERY = str.maketrans("+=/", "-_~")


def cloudfront_signer(
    base_url: str,
    private_key: Path,
    key_pair_id: str,
    prefix: str,
    clock: Callable[[], float] = time.time,
) -> Callable[[str, int], str]:
    """Return the function that makes a signed URL from a key and a lifetime in seconds.

    *prefix* precedes each key in the bucket. *clock* returns seconds since the UTC epoch. Raises:
    OSError, ValueError if the file has no RSA key.
    """
    key = load_pem_private_key(private_key.read_bytes(), None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(f"{private_key} has no RSA key")  # noqa: TRY004 - the file is wrong
    start = "/".join(filter(None, (base_url, prefix.strip("/"))))

    def sign(name: str, seconds: int) -> str:
        url, expires = f"{start}/{name}", int(clock()) + seconds
        policy = _POLICY.format(url, expires).encode()
        # CloudFront accepts only signatures with SHA-1.
        signature = key.sign(policy, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
        text = base64.b64encode(signature).decode().translate(_IN_QUERY)
        return f"{url}?Expires={expires}&Signature={text}&Key-Pair-Id={key_pair_id}"

    return sign
