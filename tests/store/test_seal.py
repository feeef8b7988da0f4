"""gateway/store/seal.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.base import StoreError
from gateway.store.seal import Seal

SEAL = Seal("a long and random secret, surely")


@given(st.binary(max_size=200))
def test_it_opens_again(value: bytes) -> None:
    """With the same key, tenant and id; twice the same value is never twice the same bytes."""
    sealed = SEAL.close(value, "t", "id")
    assert SEAL.open(sealed, "t", "id") == value
    assert sealed != SEAL.close(value, "t", "id")
    assert len(value) < 8 or value not in sealed


@pytest.mark.parametrize(("tenant", "id"), [("other", "id"), ("t", "other"), ("", "t|id"), ("t|id", "")])
def test_it_opens_in_its_place_only(tenant: str, id: str) -> None:
    """Moved to another tenant or another id it does not open."""
    with pytest.raises(StoreError):
        SEAL.open(SEAL.close(b"x", "t", "id"), tenant, id)


@given(st.integers(0, 40), st.integers(1, 255))
def test_a_changed_byte_does_not_open(place: int, change: int) -> None:
    """Neither in the version, nor in the nonce, the text or the tag; nor cut short."""
    sealed = bytearray(SEAL.close(b"some text that is long enough", "t", "id"))
    sealed[place] ^= change
    with pytest.raises(StoreError):
        SEAL.open(bytes(sealed), "t", "id")
    with pytest.raises(StoreError):
        SEAL.open(bytes(sealed[: place % 29]), "t", "id")


def test_another_key_does_not_open() -> None:
    """A new key forgets what was kept; it does not break."""
    with pytest.raises(StoreError):
        Seal("another long and random secret!!").open(SEAL.close(b"x", "t", "id"), "t", "id")
