"""Who asks: API keys, stored as hashes only.

The key that came is hashed with SHA-256 first, and the digest is looked up in a dict. That is safe against timing: a caller who
does not know the key cannot steer its digest, so how far a comparison gets tells nothing about the key; a constant-time
comparison over all keys would add nothing but time (measured: hash and lookup 0.6 us). A plain fast hash is right for keys that are
random and long, as `new_key` makes them; for passwords that people choose it would not be.
"""

import secrets
from collections.abc import Mapping
from hashlib import sha256

from msgspec import Struct

from gateway.settings.model import Access, RateSettings
from wire.errors import Unauthorized
from wire.types import Credential

_HOW = (
    "Provide your key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), "
    "or in an x-api-key header."
)
_CHALLENGE = {"www-authenticate": "Bearer"}
_PREFIX = "sha256:"


class Caller(Struct, frozen=True):
    """Who asks. tenant: the key's name, "" when access is open. admin: may read every tenant's Records."""

    tenant: str = ""
    admin: bool = False
    rate: RateSettings | None = None


class Keys:
    """The configured keys.

    Without any key, and without `open: true`, the settings let the server bind loopback addresses only: whoever gets there is
    the machine's owner and an admin. With `open: true` a stranger is let in, but is no admin; a known key still names its tenant.
    """

    def __init__(self, access: Access) -> None:
        self._callers = {
            bytes.fromhex(key.hash.removeprefix(_PREFIX)): Caller(tenant=key.name, admin=key.admin, rate=key.rate)
            for key in access.keys
        }
        self._anyone: Caller | None = None
        if access.open or not access.keys:
            self._anyone = Caller(admin=not access.open)

    def foreign(self, headers: Mapping[str, str]) -> Credential | str:
        """A key that the caller sent and that is none of ours, for rungs that are asked with it: `Bearer KEY` or `KEY`, as it came; ""
        when there is none."""
        for key in _presented(headers):
            if _digest(key) not in self._callers:
                bearer = headers.get("authorization", "").strip().endswith(key)
                return Credential(f"Bearer {key}" if bearer else key)
        return ""

    def check(self, headers: Mapping[str, str]) -> Caller:
        """The caller. `headers`: names in lower case. Raises Unauthorized, which never repeats what came."""
        given = headers.get("authorization", "")
        # As nearly all send it: the first that `_presented` names.
        if given[:7] == "Bearer " and (key := given[7:].strip()):
            found = self._callers.get(_digest(key))
            if found is not None:
                return found
        presented = _presented(headers)
        for key in presented:
            found = self._callers.get(_digest(key))
            if found is not None:
                return found
        if self._anyone is not None:
            return self._anyone
        if presented:
            raise Unauthorized(f"Incorrect API key provided. {_HOW}", headers=_CHALLENGE)
        raise Unauthorized(f"You didn't provide an API key. {_HOW}", headers=_CHALLENGE)


def hash_key(key: str) -> str:
    """As in the configuration: sha256: and 64 hex digits of the key in UTF-8."""
    return f"{_PREFIX}{_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def new_key() -> tuple[str, str]:
    """A new key with 192 random bits, and its hash for the configuration."""
    key = f"weir-{secrets.token_urlsafe(24)}"
    return key, hash_key(key)


def _presented(headers: Mapping[str, str]) -> list[str]:
    """What may be a key: OpenAI's clients send Bearer, Anthropic's x-api-key (or both), Azure's api-key."""
    found: list[str] = []
    if given := headers.get("authorization"):
        scheme, _, rest = given.strip().partition(" ")
        if scheme.lower() == "bearer" and (key := rest.strip()):
            found.append(key)
    for name in ("x-api-key", "api-key"):
        if name in headers and (key := headers[name].strip()):
            found.append(key)
    return found
