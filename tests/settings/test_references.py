"""gateway/settings/references.py, through the front door: text in, lines out."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.references import covers, is_loopback
from tests.settings.writing import GOOD, KINDS, swap, told, warned

KEY = f"sha256:{'0' * 64}"
OTHER = f"sha256:{'1' * 64}"


def test_a_good_file_has_no_findings(tmp_path: Path) -> None:
    """The file that the tests below spoil is clean itself."""
    assert told(tmp_path, GOOD) == []
    assert warned(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "default: general",
            "default: generl",
            "11: router.default: no route named 'generl' (did you mean 'general'?)",
        ),
        (
            "[slm, cloud]",
            "[slm, clod]",
            "15: routes.small.ladder.1: no backend named 'clod' (did you mean 'cloud'?)",
        ),
        (
            "[slm, cloud]",
            "[xyz, cloud]",
            "15: routes.small.ladder.0: no backend named 'xyz' (there are cloud, slm)",
        ),
        (
            "[slm, cloud]",
            "[slm, cloud, slm]",
            "15: routes.small.ladder.2: 'slm' is already on this ladder: the same rung is asked once",
        ),
        (
            "{risk: 0.01}",
            "{agrees_with: slm}",
            "16: routes.small.accept.agrees_with: 'slm' always agrees with itself: name another backend",
        ),
        (
            "{risk: 0.01}",
            "{agrees_with: {rung: cloud, when: grey}}",
            "16: routes.small.accept.agrees_with: the grey zone is where a risk is not kept: it needs `risk`; or say `when: always`",
        ),
        (
            "{risk: 0.01}",
            "{agrees_with: {rung: cloud, when: weighed}}",
            "16: routes.small.accept.agrees_with: what is weighed is held against a risk: it needs `risk`; or say `when: always`",
        ),
        (
            "{risk: 0.01}",
            "{risk: 0.01, agrees_with: clod}",
            "16: routes.small.accept.agrees_with: no backend named 'clod' (did you mean 'cloud'?)",
        ),
        (
            "    ladder: [cloud]",
            "    ladder: [cloud]\n    tools: {refund: {risk: 0.1}}",
            "20: routes.general.tools.refund.risk: needs `accept: {risk: ...}`: it is held against the same calibration",
        ),
        (
            "[slm, cloud]",
            "[slm]",
            "16: routes.small.accept.risk: a ladder of one has nobody above to ask, so no risk can be promised: "
            "add a rung or take `risk` away",
        ),
        (
            "    ladder: [cloud]",
            "    ladder: [cloud]\n    egress: local",
            "19: routes.general.ladder: every rung is `cloud: true` and `egress: local` forbids them: nobody can answer",
        ),
        (
            "mode: enforce",
            "choice: [a]\n    regex: a",
            "18: routes.small.regex: only one of choice, regex can be imposed on an answer",
        ),
        (
            "mode: enforce",
            "schema: {}\n    grammar: a",
            "18: routes.small.grammar: only one of schema, grammar can be imposed on an answer",
        ),
        (
            "mode: enforce",
            "render: '{label}'",
            "17: routes.small.render: there is nothing to render: it needs one of schema, choice, regex, grammar",
        ),
        (
            "mode: enforce",
            "render: '{label'\n    choice: [a]",
            "17: routes.small.render: is no template like \"{label}\": expected '}' before end of string",
        ),
        ("weir: routed", "weir: route/smal", "21: models.weir.use: no route named 'smal' (did you mean 'small'?)"),
        ("weir: routed", "weir: backend/clod", "21: models.weir.use: no backend named 'clod' (did you mean 'cloud'?)"),
        (
            "weir: routed",
            "weir: {through: clod}",
            "21: models.weir.through: no backend named 'clod' (did you mean 'cloud'?)",
        ),
        (
            "models:",
            "server: {host: 0.0.0.0}\nmodels:",
            "20: server.host: others can reach this address: give `access:` keys (`weir key NAME`) or say `access: open`",
        ),
        (
            "models:",
            f"access: {{keys: [{{name: a, hash: '{KEY}'}}, {{name: a, hash: '{OTHER}'}}]}}\nmodels:",
            "20: access.keys.1.name: the name is already that of key 0 ('a')",
        ),
        (
            "models:",
            f"access: {{keys: [{{name: a, hash: '{KEY}'}}, {{name: b, hash: '{KEY}'}}]}}\nmodels:",
            "20: access.keys.1.hash: the hash is already that of key 0 ('a')",
        ),
    ],
)
def test_what_cannot_work_is_a_mistake(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Each contradiction once, at the line that says it."""
    assert told(tmp_path, swap(old, new)) == [expected]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "[slm, cloud]",
            "[slm, cloud]\n    egress: local",
            "15: routes.small.ladder: `egress: local` forbids the top rung 'cloud' (`cloud: true`): it is never asked",
        ),
        ("{risk: 0.01}", "{calibration: x.json}", "16: routes.small.accept.calibration: is not used without `risk`"),
        (
            "mode: enforce",
            "mode: enforce\n    canary: 0.1",
            "18: routes.small.canary: is not used without `mode: canary`",
        ),
        (
            "mode: enforce",
            "shadow: {sample: 0.5}",
            "17: routes.small.shadow: is not used in `mode: observe`: write `mode: shadow`",
        ),
        (
            "    ladder: [cloud]",
            "    ladder: [cloud]\n    mode: shadow",
            "20: routes.general.mode: `shadow` needs a small rung below the top one: this ladder has one rung",
        ),
        (
            "    ladder: [cloud]",
            "    ladder: [cloud]\n    mode: canary",
            "20: routes.general.mode: `canary` needs a small rung below the top one: this ladder has one rung",
        ),
        (
            "ladder: [slm, cloud]\n    accept: {risk: 0.01}\n    mode: enforce",
            "ladder: [cloud, slm]\n    egress: local\n    mode: shadow",
            "15: routes.small.ladder: `egress: local` forbids 'cloud': never asked, not even in shadow",
        ),
        (
            "{risk: 0.01}",
            "{self_consistency: {samples: 3}}",
            "16: routes.small.accept.self_consistency: is not used without `risk`: no answer is unsure",
        ),
        (
            "mode: enforce",
            "tools: {refund: {risk: 0.1}}",
            "17: routes.small.tools.refund.risk: is laxer than the route's own `accept.risk`, which counts",
        ),
        (
            "mode: enforce",
            "tools: {refund: {local: agree}}",
            "17: routes.small.tools.refund.local: nobody can agree: name a second backend in `accept: {agrees_with: ...}`",
        ),
        (
            "mode: enforce",
            "choice: [a]\n    render: label",
            '18: routes.small.render: names no field, so every answer would read the same: "{label}"',
        ),
        (
            "    price: {input: 1, output: 2}",
            "    timeout: 3",
            "4: backends.cloud: no `price:`, so every cost of this cloud backend will read 0",
        ),
        (
            "  slm:",
            "  idle: {kind: tests.settings.kinds:Local}\n  slm:",
            "2: backends.idle: is on no ladder and no model name leads to it",
        ),
        (
            f"    kind: {KINDS}:Local",
            "    kind: scripted",
            "3: backends.slm.kind: plays a script: its answers are no model's; for demos and tests only",
        ),
        (
            "models:\n  weir: routed",
            "",
            "1: models: no model name is known: every request gets 404 model_not_found",
        ),
        (
            "  weir: routed",
            "  gpt-*: routed\n  gpt-5: routed\n  gpt-4*: routed",
            "23: models.gpt-4*: never matches: 'gpt-*' stands before it and takes every such name",
        ),
        (
            "models:",
            f"access: {{open: true, keys: [{{name: a, hash: '{KEY}'}}]}}\nmodels:",
            "20: access.open: with `open`, a request without a key is answered all the same",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """The file is loaded all the same."""
    text = swap(old, new)
    assert told(tmp_path, text) == []
    assert warned(tmp_path, text) == [expected]


@pytest.mark.parametrize(
    ("kind", "accept", "errors", "warnings"),
    [
        ("Local", "agrees_with: {rung: other, when: weighed}", [], []),
        (
            "Sure",
            "agrees_with: {rung: other, when: weighed}",
            [
                "17: routes.small.accept.agrees_with: 'slm' says a probability of its own, and only log-probabilities can be weighed: "
                "say `when: always` or `when: grey`"
            ],
            [],
        ),
        ("Sure", "agrees_with: {rung: other, when: grey}", [], []),
        (
            "Local",
            "agrees_with: {rung: other, when: weighed}, self_consistency: {samples: 3}",
            [],
            [
                "17: routes.small.accept.self_consistency: is not used: `agrees_with: {when: weighed}` knows no grey zone"
            ],
        ),
    ],
)
def test_what_can_be_weighed(tmp_path: Path, kind: str, accept: str, errors: list[str], warnings: list[str]) -> None:
    """A second answer, of any kind, is weighed with log-probabilities of the first, and takes the grey zone's place."""
    text = swap(f"{KINDS}:Local", f"{KINDS}:{kind}", swap("{risk: 0.01}", f"{{risk: 0.01, {accept}}}"))
    text = swap("  slm:\n", f"  other: {{kind: {KINDS}:Sure}}\n  slm:\n", text)
    assert told(tmp_path, text) == errors
    assert errors or warned(tmp_path, text) == warnings


@pytest.mark.parametrize(
    "access", ["access: open", "access: {open: true}", f"access: {{keys: [{{name: a, hash: '{KEY}'}}]}}"]
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_an_open_address_needs_a_word(tmp_path: Path, access: str, host: str) -> None:
    """Keys, or the bare word `open`, or the table that says so."""
    server = f"server: {{host: '{host}'}}\n"
    assert len(told(tmp_path, GOOD + server)) == 1
    assert told(tmp_path, GOOD + server + access + "\n") == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_what_loopback_is(host: str, expected: bool) -> None:
    """Only what nobody outside can reach."""
    assert is_loopback(host) is expected


def test_missing_keys_hide_behind_mistakes(tmp_path: Path) -> None:
    """While there are mistakes, keys that could not be read are not reported as absent."""
    text = GOOD + "server: {host: 0.0.0.0}\naccess: {keys: [{name: a, hash: x}]}\n"
    assert [line.partition(": ")[2].partition(":")[0] for line in told(tmp_path, text)] == ["access.keys.0.hash"]


@pytest.mark.parametrize(
    ("glob", "other", "expected"),
    [
        ("*", "gpt-*", True),
        ("gpt-*", "gpt-4*", True),
        ("gpt-*", "gpt-?", True),
        ("o?*", "o1*", True),
        ("o?", "o*", False),
        ("o*", "o?", True),
        ("gpt-4*", "gpt-*", False),
        ("*-mini", "gpt-*-mini", True),
        ("claude-*", "gpt-*", False),
        ("[ab]*", "a*", True),
        ("[ab]*", "[ab]*", True),
        ("a*", "[ab]*", False),
    ],
)
def test_which_glob_takes_everything_of_another(glob: str, other: str, expected: bool) -> None:
    """`covers`, by hand."""
    assert covers(glob, other) is expected


PATTERN = st.text(alphabet="ab*?", min_size=1, max_size=5)


@given(PATTERN, PATTERN, st.lists(st.text(alphabet="abc", max_size=6), min_size=20, max_size=20))
def test_a_covered_glob_never_matches_alone(glob: str, other: str, names: list[str]) -> None:
    """If `covers` says so, no name matches the covered glob only: the warning never lies."""
    if covers(glob, other):
        assert [name for name in names if fnmatchcase(name, other) and not fnmatchcase(name, glob)] == []
