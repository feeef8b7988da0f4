"""gateway.access.keys: who asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keys import Caller, Keys, hash_key, new_key
from gateway.settings.model import Access, KeySettings, RateSettings
from wire.errors import Unauthorized

KEY, HASH = new_key()
ADMIN, ADMIN_HASH = new_key()
RATE = RateSettings(per_minute=60)
CONFIGURED = Access(
    keys=(KeySettings(name="agents", hash=HASH, rate=RATE), KeySettings(name="ops", hash=ADMIN_HASH, admin=True))
)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"authorization": f"  BEARER   {KEY} "},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"authorization": "Basic abc", "x-api-key": KEY},
        {"authorization": "Bearer sk-dummy", "x-api-key": KEY},
    ],
)
def test_a_key_is_found_where_clients_put_it(headers: dict[str, str]) -> None:
    """Bearer in any case, x-api-key and api-key name the tenant; a dummy in one place does not hide the key in another."""
    assert Keys(CONFIGURED).check(headers) == Caller(tenant="agents", rate=RATE)


def test_an_admin_is_an_admin_by_its_key_only() -> None:
    """`admin` comes from the key's own settings."""
    keys = Keys(CONFIGURED)
    assert keys.check({"authorization": f"Bearer {ADMIN}"}).admin
    assert not keys.check({"authorization": f"Bearer {KEY}"}).admin


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "You didn't provide an API key."),
        ({"authorization": "Bearer "}, "You didn't provide an API key."),
        ({"authorization": f"Basic {KEY}"}, "You didn't provide an API key."),
        ({"authorization": KEY}, "You didn't provide an API key."),
        ({"authorization": "Bearer sk-not-this-one"}, "Incorrect API key provided."),
        ({"x-api-key": "sk-not-this-one"}, "Incorrect API key provided."),
        ({"x-api-key": HASH}, "Incorrect API key provided."),
    ],
)
def test_no_key_or_a_wrong_one_is_401_in_openais_words(headers: dict[str, str], words: str) -> None:
    """401 invalid_api_key, with a challenge; a stolen configuration (the hash) opens nothing; the key is not repeated."""
    with pytest.raises(Unauthorized) as caught:
        Keys(CONFIGURED).check(headers)
    assert caught.value.status == 401
    assert caught.value.body()["error"]["code"] == "invalid_api_key"
    assert caught.value.message.startswith(words)
    assert caught.value.headers["www-authenticate"] == "Bearer"
    assert "not-this-one" not in str(caught.value.body())


@given(st.text(st.characters(codec=None), max_size=40))
def test_no_header_text_breaks_the_check(text: str) -> None:
    """Whatever comes as a key, lone surrogates included, is a caller or Unauthorized."""
    with pytest.raises(Unauthorized):
        Keys(CONFIGURED).check({"authorization": f"Bearer {text}", "x-api-key": text})


@pytest.mark.parametrize("given", ["Bearer ", "Bearer    ", "Bearer", "bearer ", ""])
def test_no_key_is_no_key_even_where_its_hash_is_configured(given: str) -> None:
    """An empty key names nobody."""
    with pytest.raises(Unauthorized, match="You didn't provide an API key"):
        Keys(Access(keys=(KeySettings(name="nobody", hash=hash_key("")),))).check({"authorization": given})


@given(st.sampled_from(["Bearer", "bearer", "Basic", "BEARER", ""]), st.text(" \t\u3000", max_size=2), st.booleans())
def test_space_around_a_key_is_no_part_of_it(scheme: str, space: str, known: bool) -> None:
    """However it is spelt: what follows the scheme `Bearer`, stripped, is the key; after another scheme stands none."""
    headers = {"authorization": f"{scheme} {space}{KEY if known else 'x'}{space}"}
    if known and scheme.lower() == "bearer":
        assert Keys(CONFIGURED).check(headers).tenant == "agents"
    else:
        with pytest.raises(Unauthorized):
            Keys(CONFIGURED).check(headers)


def test_without_keys_the_machines_owner_is_an_admin() -> None:
    """No key configured means loopback only: the caller is tenant "" and may read Records."""
    assert Keys(Access()).check({"authorization": "Bearer sk-anything"}) == Caller(admin=True)


def test_open_access_lets_strangers_in_but_not_to_records() -> None:
    """`open: true`: a stranger is tenant "" and no admin, a known key keeps its name."""
    keys = Keys(Access(open=True, keys=CONFIGURED.keys))
    assert keys.check({}) == Caller()
    assert keys.check({"x-api-key": "sk-dummy"}) == Caller()
    assert keys.check({"x-api-key": ADMIN}) == Caller(tenant="ops", admin=True)


def test_new_keys_differ_and_their_hash_fits_the_configuration() -> None:
    """`weir key` prints a key and a hash that the settings take."""
    assert KEY != ADMIN
    assert KeySettings(name="k", hash=hash_key(KEY)).hash == HASH
