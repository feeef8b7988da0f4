"""`kind:` > class, without a registry."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wire.kinds import UnknownKind, kinds, load_kind

FILES = {
    "__init__.py": "",
    "base.py": "class Base: ...",
    "_private.py": "class Private: ...",
    "round_robin.py": "from plugs.base import Base\nclass Helper: ...\nclass RoundRobin(Base): ...",
    "plain.py": "class Plain: ...\nvalue = 5",
    "empty.py": "from plugs.plain import Plain as Empty",
    "loud.py": "raise RuntimeError('loud')",
    "group/__init__.py": "class Group: ...",
}


@pytest.fixture
def plugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of its own with some kinds in it."""
    for name, text in FILES.items():
        path = tmp_path / "plugs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield "plugs"
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugs"]:
        del sys.modules[name]


def test_kinds_are_the_modules_of_a_package(plugs: str) -> None:
    """All but `base`, private ones and packages; asking imports none of them."""
    assert kinds(plugs) == ["empty", "loud", "plain", "round_robin"]
    assert "plugs.loud" not in sys.modules
    assert kinds("no_such_package") == []


@pytest.mark.parametrize(
    ("kind", "name"), [("plain", "Plain"), ("round_robin", "RoundRobin"), ("plugs.plain:Plain", "Plain")]
)
def test_a_kind_names_a_class(plugs: str, kind: str, name: str) -> None:
    """The class that is named as its file, without underscores and case; or any class by module and name."""
    assert load_kind(plugs, kind).__name__ == name


@pytest.mark.parametrize(
    "kind", ["base", "_private", "group", "nothing", "", "../plain", "plain.py", "plugs.plain", "Plain"]
)
def test_an_unknown_kind_lists_the_known_ones(plugs: str, kind: str) -> None:
    """What is no kind is said to be none, with those that are."""
    with pytest.raises(UnknownKind, match="round_robin"):
        load_kind(plugs, kind)


@pytest.mark.parametrize(
    "kind",
    [
        "plugs.plain:Nope",
        "plugs.nope:Plain",
        "plugs.plain:",
        ":Plain",
        ":",
        "plugs.plain:value",
        "plugs.loud:Loud",
        ".plain:Plain",
        "a b:c",
    ],
)
def test_a_class_that_cannot_be_had(plugs: str, kind: str) -> None:
    """No such module or name, nothing before or after the colon, no class, a module that raises: UnknownKind, which names it."""
    with pytest.raises(UnknownKind) as caught:
        load_kind(plugs, kind)
    assert repr(kind) in str(caught.value)


def test_a_class_from_elsewhere_does_not_count(plugs: str) -> None:
    """A file that only imports a class of the fitting name defines none."""
    with pytest.raises(UnknownKind, match=r"plugs/empty\.py defines no class"):
        load_kind(plugs, "empty")


def test_the_houses_own_kinds_load() -> None:
    """Every kind that is listed can be had."""
    for package in ("routers", "backends", "gateway.validators"):
        assert kinds(package)
        for kind in kinds(package):
            assert load_kind(package, kind).__module__ == f"{package}.{kind}"
