"""Decoding, block by block: whatever the cut and the ratio, the same bytes, and never many at once."""

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.http.inflate import Inflate
from wire.errors import Broken


def inflated(coding: str, blocks: list[bytes]) -> list[bytes]:
    inflate = Inflate(coding, "here")
    got = []
    for block in blocks:
        inflate.feed(block)
        while out := inflate.take():
            got.append(out)
    inflate.finish()
    return got


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3), st.lists(st.integers(0, 400), max_size=5))
def test_any_cut(members: list[bytes], cuts: list[int]) -> None:
    """One member or several (RFC 1952, 2.2), cut anywhere."""
    packed = b"".join(gzip.compress(member) for member in members)
    assert b"".join(inflated("gzip", cut(packed, cuts))) == b"".join(members)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**20, 5_000_000])
def test_a_bomb_comes_in_pieces(coding: str, size: int) -> None:
    """Five kilobytes that stand for five megabytes are given a quarter of a megabyte at a time, all of them."""
    packed = gzip.compress(bytes(size)) if coding == "gzip" else zlib.compress(bytes(size))
    for blocks in ([packed], cut(packed, [10, 20, 1000])):
        got = inflated(coding, blocks)
        assert sum(map(len, got)) == size
        assert max(map(len, got), default=0) <= 2**18


def test_an_empty_body_is_one() -> None:
    """A body of no bytes is empty, whatever its coding says."""
    assert inflated("gzip", []) == []


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=20))
def test_rubbish_is_broken(data: bytes, more: bytes) -> None:
    """What is no gzip, is cut short, or has rubbish behind it: Broken or the bytes it stands for, nothing else."""
    packed = gzip.compress(data)
    for bad in (data, packed[:-1], packed + b"\0" + more):
        with pytest.raises(Broken, match="decoded"):
            inflated("gzip", [bad])


def test_other_codings_are_refused() -> None:
    """What nobody asked for and nobody here can decode is said before a byte is read."""
    for coding in ("br", "zstd", "gzip, gzip", "compress"):
        with pytest.raises(Broken, match="content coding"):
            Inflate(coding, "here")
