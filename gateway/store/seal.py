"""Encryption of what leaves the process: AES-256-GCM, bound to the tenant and the id it is kept under.

    byte 0       version of this layout, 1
    bytes 1-12   nonce, random for every value (at most 2^32 values a key: change it long before)
    the rest     ciphertext and tag

A value that was moved to another tenant or id, changed, cut, or written with another key does not open.
"""

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING

from gateway.store.base import StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE = 12


class Seal:
    def __init__(self, secret: str) -> None:
        """secret: long and random, as `gateway.settings.references` demands; hashed to the key's length, not stretched."""
        from cryptography.hazmat.primitives.ciphers import aead

        self._cipher: AESGCM = aead.AESGCM(sha256(b"weir response store 1\0" + secret.encode()).digest())

    def close(self, value: bytes, tenant: str, id: str) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return VERSION + nonce + self._cipher.encrypt(nonce, value, _bound(tenant, id))

    def open(self, sealed: bytes, tenant: str, id: str) -> bytes:
        """Raises StoreError."""
        from cryptography.exceptions import InvalidTag

        start = len(VERSION) + NONCE
        if sealed[:1] != VERSION or len(sealed) < start:
            raise StoreError("a kept response is in an unknown form")
        try:
            return self._cipher.decrypt(sealed[1:start], sealed[start:], _bound(tenant, id))
        except InvalidTag as exc:
            raise StoreError("a kept response cannot be opened: another key, or it was changed") from exc


def _bound(tenant: str, id: str) -> bytes:
    return f"{tenant}|{id}".encode()
