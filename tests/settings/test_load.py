"""gateway/settings/load.py, and with it sources, typed and explain."""

from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings.load import load
from gateway.settings.mistakes import ConfigError
from tests.settings.kinds import Cloud
from tests.settings.writing import GOOD, KINDS, attempt, found, read, swap, told, wrote
from wire.kinds import kinds

UNSET = "the variable NOT_SET is not set; set it or write ${NOT_SET:-default}"
A_SECRET = "a secret is ${NAME}, ${file:PATH} or the value itself, nothing around it"
NUMBER = "must be a string, and YAML reads this as a number: put it in quotes"
A_NAME = "a name is 1 to 63 of a-z, 0-9, `_`, `.` and `-`, and starts with a letter or a digit"
ROUTERS = f"one of {', '.join(kinds('routers'))}, or 'module:Class'"
CHECKS = f"one of {', '.join(kinds('gateway.validators'))}, or 'module:Class'"


def test_a_good_file_is_loaded(tmp_path: Path) -> None:
    """Settings, digest, files and lines; kinds are their own Configs."""
    loaded = read(tmp_path, GOOD)
    cloud = loaded.settings.backends["cloud"]
    assert isinstance(cloud, Cloud.Config)
    assert cloud.price.output == 2
    assert loaded.settings.routes["small"].ladder == ("slm", "cloud")
    assert loaded.settings.models["weir"].use == "routed"
    assert loaded.files == (tmp_path / "weir.yaml",)
    assert loaded.folder == tmp_path
    assert loaded.lines.at(("routes", "small", "accept", "risk")).line == 16


def test_a_mistake_reads_like_a_compiler_error(tmp_path: Path) -> None:
    """FILE:LINE: where: message, with the name that was probably meant."""
    path = wrote(tmp_path, swap("[slm, cloud]", "[slm, clod]"))
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    errors = [str(mistake) for mistake in caught.value.mistakes if mistake.severity == "error"]
    assert errors == [f"{path}:15: routes.small.ladder.1: no backend named 'clod' (did you mean 'cloud'?)"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    mode: enforce", "    mod: enforce", ["17: routes.small.mod: unknown key 'mod' (did you mean 'mode'?)"]),
        ("models:", "modells:", ["20: modells: unknown key 'modells' (did you mean 'models'?)"]),
        ("    mode: enforce", "    mode: 3", [f"17: routes.small.mode: {NUMBER}"]),
        ("mode: enforce", "mode: on", ["17: routes.small.mode: must be 'observe', 'shadow', 'canary' or 'enforce'"]),
        ("{risk: 0.01}", "{risk: 2}", ["16: routes.small.accept.risk: must be less than 1"]),
        (
            "{risk: 0.01}",
            "{risk: .nan}",
            ["16: routes.small.accept.risk: a number must be finite, and an integer must fit 64 bits"],
        ),
        ("{risk: 0.01}", "5", ["16: routes.small.accept: must be a table (`key: value` lines)"]),
        ("[slm, cloud]", "slm", ["15: routes.small.ladder: must be a list"]),
        ("    ladder: [cloud]", "    description: x", ["18: routes.general.ladder: is missing"]),
        ("  default: general", "  deadline: 1", ["9: router.default: is missing"]),
        (
            "{kind: rules}",
            "{kind: rulse}",
            [f"10: router.use.kind: unknown kind 'rulse': {ROUTERS} (did you mean 'rules'?)"],
        ),
        ("{kind: rules}", "{name: x}", [f"10: router.use.kind: says which kind this is: {ROUTERS}"]),
        (
            "{kind: rules}",
            "{kind: rules, k: 1}",
            ["10: router.use.k: unknown key 'k' (there are kind, name, sure, sure_out)"],
        ),
        (
            f"{KINDS}:Local",
            f"{KINDS}:Bare",
            [f"3: backends.slm.kind: '{KINDS}:Bare' is no kind: its class has no Config"],
        ),
        (
            f"{KINDS}:Local",
            f"{KINDS}:Wrong",
            [f"3: backends.slm.kind: '{KINDS}:Wrong' is no kind: its Config is no BackendConfig"],
        ),
        (
            f"{KINDS}:Local",
            f"{KINDS}:Leaf",
            [f"3: backends.slm.kind: '{KINDS}:Leaf' is no kind: its Config is no BackendConfig"],
        ),
        (
            "    cloud: true",
            "    port: x",
            ["7: backends.cloud.port: must be a valid integer, unable to parse string as an integer"],
        ),
        ("    cloud: true", "    model: 3.5", [f"7: backends.cloud.model: {NUMBER}"]),
        (
            "    cloud: true",
            "    model: true",
            ['7: backends.cloud.model: must be a string, and YAML reads true as a boolean: write "true" in quotes'],
        ),
        (
            "    cloud: true",
            "    model:",
            ['7: backends.cloud.model: must be a string, and nothing (or null) stands here: write "" for an empty one'],
        ),
        ("    cloud: true", "    model: [a]", ["7: backends.cloud.model: must be a string, not a list"]),
        ("    cloud: true", "    model: {a: 1}", ["7: backends.cloud.model: must be a string, not a table"]),
        ("    cloud: true", "    base_url: ${NOT_SET}/v1", [f"7: backends.cloud.base_url: {UNSET}"]),
        ("    cloud: true", "    port: ${NOT_SET}", [f"7: backends.cloud.port: {UNSET}"]),
        ("${WEIR_TEST_KEY}", "Bearer ${X}", [f"6: backends.cloud.api_key: {A_SECRET}"]),
        ("${WEIR_TEST_KEY}", "${X:-y}", [f"6: backends.cloud.api_key: {A_SECRET}"]),
        (
            "${WEIR_TEST_KEY}",
            "12345",
            ["6: backends.cloud.api_key: a secret is a string: ${NAME}, ${file:PATH} or the value itself"],
        ),
        (
            "  slm:",
            "  SLM:",
            [f"2: backends.SLM: {A_NAME}", "15: routes.small.ladder.0: no backend named 'slm' (there are SLM, cloud)"],
        ),
        ("  weir: routed", "  weir: roted", ["21: models.weir: must be routed, route/NAME or backend/NAME"]),
        ("  weir: routed", "  weir: yes", ["21: models.weir: must be routed, route/NAME or backend/NAME"]),
        ("models:", "access: opn\nmodels:", ["20: access: must be the word `open`, or a table with `keys:`"]),
        (
            "models:",
            "access: {keys: [{name: a, hash: sk-x}]}\nmodels:",
            ["20: access.keys.0.hash: must match pattern '^sha256:[0-9a-f]{64}$'"],
        ),
        (
            "{schema_name: intent}",
            "{schema_nam: intent}",
            ["14: routes.small.match.schema_nam: unknown key 'schema_nam' (did you mean 'schema_name'?)"],
        ),
        (
            "{schema_name: intent}",
            "[{model: a}, {mdel: b}]",
            ["14: routes.small.match.1.mdel: unknown key 'mdel' (did you mean 'model'?)"],
        ),
        (
            "{schema_name: intent}",
            "[{model: a}, {turns: {min: 3, max: 2}}]",
            ["14: routes.small.match.1.turns: min 3 is larger than max 2: nothing can match"],
        ),
        (
            "{risk: 0.01}",
            "{validators: [finished, fnished]}",
            [f"16: routes.small.accept.validators.1: unknown kind 'fnished': {CHECKS} (did you mean 'finished'?)"],
        ),
        (
            "{risk: 0.01}",
            f"{{validators: [{{kind: '{KINDS}:Judge', least: x}}]}}",
            [
                "16: routes.small.accept.validators.0.least: must be a valid integer, unable to parse string as an integer"
            ],
        ),
        (
            "{risk: 0.01}",
            "{validators: [{kind: finished, x: 1}]}",
            ["16: routes.small.accept.validators.0.x: unknown key 'x' (there is kind)"],
        ),
        (
            "{risk: 0.01}",
            "{validators: [3]}",
            ["16: routes.small.accept.validators.0: must be a table (`key: value` lines)"],
        ),
    ],
)
def test_a_mistake_and_its_line(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    """One mistake gives one message at its own line, and nothing that only follows from it."""
    assert told(tmp_path, swap(old, new)) == expected


@pytest.mark.parametrize("kind", ["no.such.module:X", f"{KINDS}:Nothing", "tests.settings.raises:X"])
def test_a_kind_that_cannot_be_imported_is_one_mistake(tmp_path: Path, kind: str) -> None:
    """Whatever the import of somebody's module raises, it is about the line that names it."""
    (line,) = told(tmp_path, swap(f"{KINDS}:Local", kind))
    assert line.startswith(f"3: backends.slm.kind: '{kind}' cannot be imported")


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    """YAML, keys, kinds, types, variables and references in one run, in the order of the file."""
    text = swap("    mode: enforce", "    mode: enforce\n    mode: observe")
    text = swap(f"{KINDS}:Local", "openia", text)
    text = swap("    cloud: true", "    cloud: maybe\n    base_url: ${NOT_SET}", text)
    text = swap("  default: general", "  default: generl", text)
    text = swap("{schema_name: intent}", "{schema_nam: intent}", text)
    text += "  x: route/nope\nserver: {port: 99999}\n"
    assert [line.partition(": ")[0] for line in told(tmp_path, text)] == ["3", "7", "8", "12", "15", "19", "24", "25"]


def test_every_item_of_a_list_is_judged(tmp_path: Path) -> None:
    """Labels that YAML reads as something else are all named; `yes` and `no` are words."""
    text = swap("    mode: enforce", "    choice: [yes, true, no, 1]")
    lines = told(tmp_path, text)
    assert [line.split(": ")[1] for line in lines] == ["routes.small.choice.1", "routes.small.choice.3"]


def test_yes_and_no_are_labels_where_labels_are_wanted_and_booleans_where_booleans_are(tmp_path: Path) -> None:
    """What a word means depends on what is asked for, not on YAML 1.1."""
    text = swap("    mode: enforce", "    choice: [yes, no, on, off]\n    strict: yes")
    route = read(tmp_path, text).settings.routes["small"]
    assert route.choice == ("yes", "no", "on", "off")
    assert route.strict is True


def test_a_broken_part_hides_no_mistake_elsewhere(tmp_path: Path) -> None:
    """A backend that cannot be read is still a backend for the ladders that name it."""
    text = swap("    cloud: true", "    cluod: true")
    text = swap("[slm, cloud]", "[slm, cluod]", text)
    assert told(tmp_path, text) == [
        "7: backends.cloud.cluod: unknown key 'cluod' (did you mean 'cloud'?)",
        "15: routes.small.ladder.1: no backend named 'cluod' (did you mean 'cloud'?)",
    ]


@pytest.mark.parametrize("table", ["backends", "routes", "router", "models", "server"])
def test_a_table_that_is_none_is_one_mistake(tmp_path: Path, table: str) -> None:
    """No avalanche: what would lead into the broken table is not reported."""
    data: dict[str, Any] = {**yaml.safe_load(GOOD), table: 5}
    lines = told(tmp_path, yaml.safe_dump(data))
    assert [line.partition(": ")[2] for line in lines] == [f"{table}: must be a table (`key: value` lines)"]


@pytest.mark.parametrize(
    ("text", "lines"), [("", 3), ("backends: {}\nrouter: {use: {kind: rules}, default: a}\nroutes: {}\n", 1)]
)
def test_nothing_is_not_enough(tmp_path: Path, text: str, lines: int) -> None:
    """An empty file lacks its three tables; empty tables lack a route."""
    assert len(told(tmp_path, text)) == lines


@pytest.mark.parametrize(
    ("write", "says"), [(None, "No such file"), (b"\xff\xfe\x00", "not UTF-8"), (b"a: [", "no YAML")]
)
def test_a_file_that_cannot_be_read_is_one_mistake(tmp_path: Path, write: bytes | None, says: str) -> None:
    """Also then a ConfigError, and only what is known."""
    path = tmp_path / "weir.yaml"
    if write is not None:
        path.write_bytes(write)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert len(caught.value.mistakes) == 1
    assert says in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """OSError of every kind is a mistake."""
    with pytest.raises(ConfigError, match="directory"):
        load(tmp_path, {})


# --- interpolation, secrets -------------------------------------------------------------------------------------------------------


def test_variables_stand_in_any_string(tmp_path: Path) -> None:
    """Also where a number is wanted, and inside free-form tables."""
    text = swap("    cloud: true", "    port: ${PORT}\n    base_url: http://${HOST:-h}/v1")
    text = swap("    mode: enforce", "    schema: {title: '${HOST:-t}', pattern: 'a$$'}", text)
    loaded = read(tmp_path, text, {"PORT": "81"})
    cloud = loaded.settings.backends["cloud"]
    assert isinstance(cloud, Cloud.Config)
    assert (cloud.port, cloud.base_url) == (81, "http://h/v1")
    assert loaded.settings.routes["small"].schema_ == {"title": "t", "pattern": "a$"}


def test_a_secret_keeps_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up at use, so a new value needs no reload; unset is a warning that names the variable."""
    monkeypatch.delenv("WEIR_TEST_KEY", raising=False)
    loaded = read(tmp_path, GOOD, {"WEIR_TEST_KEY": "sk-early"})
    cloud = loaded.settings.backends["cloud"]
    assert isinstance(cloud, Cloud.Config)
    assert cloud.api_key is not None
    assert [str(warning) for warning in loaded.warnings] == [
        f"{tmp_path}/weir.yaml:4: backends.cloud: cloud is unavailable until WEIR_TEST_KEY is set"
    ]
    monkeypatch.setenv("WEIR_TEST_KEY", "sk-late")
    assert cloud.api_key.reveal() == "sk-late"
    assert read(tmp_path, GOOD).warnings == ()


def test_a_secret_file_is_relative_to_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the process was started."""
    (tmp_path / "key").write_text("sk-file\n")
    monkeypatch.chdir("/")
    loaded = read(tmp_path, swap("${WEIR_TEST_KEY}", "${file:key}"))
    cloud = loaded.settings.backends["cloud"]
    assert isinstance(cloud, Cloud.Config)
    assert cloud.api_key is not None
    assert cloud.api_key.reveal() == "sk-file"
    assert loaded.warnings == ()


SECRET = "sk-verysecret-0123456789"


@pytest.mark.parametrize(
    "line",
    [
        f"    api_key: {SECRET}",
        f"    api_key: ${{WEIR_TEST_KEY}}\n    headers: {{x-key: {SECRET}}}",
        f"    api_key: a ${{{SECRET}}}",
        f"    api_key: [{SECRET}]",
        f"    api_key: {{value: {SECRET}}}",
        f"    api_kee: {SECRET}",
        f"    api_key: {SECRET}\n    port: {SECRET}",
        f"    api_key: {SECRET}\n    model: [{SECRET}]",
        f'    api_key: "{SECRET}\n    model: x',
        f"    api_key: {SECRET}: {SECRET}",
        f"    api_key: ${{WEIR_TEST_KEY}}\n    base_url: '${{{SECRET}'",
    ],
)
def test_no_secret_is_ever_shown(tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a mistake, not in what was loaded, whatever was done wrong around it; not even as the cause of the error."""
    monkeypatch.setenv("WEIR_TEST_KEY", SECRET)
    path = wrote(tmp_path, swap("    api_key: ${WEIR_TEST_KEY}", line))
    loaded, error = attempt(path, {"WEIR_TEST_KEY": SECRET})
    shown = "".join(format_exception(error)) + repr(error and error.mistakes)
    if loaded is not None:
        shown += f"{loaded!r}{loaded.settings.model_dump()}{loaded.settings.model_dump_json()}{loaded.warnings}"
    assert SECRET not in shown
    assert error is None or (error.__cause__, error.__context__) == (None, None)


def test_a_secret_in_the_file_itself_is_warned_of(tmp_path: Path) -> None:
    """It works, and it ends in a repository one day."""
    (warning,) = found(tmp_path, swap("${WEIR_TEST_KEY}", SECRET))
    assert warning.severity == "warning"
    assert (warning.line, warning.where) == (6, "backends.cloud.api_key")


# --- kinds within kinds -----------------------------------------------------------------------------------------------------------


def test_nested_kinds_are_read_by_their_own_config(tmp_path: Path) -> None:
    """A cascade's tiers, and a foreign router's: each by its kind, wherever its Config has routers in it."""
    use = (
        f"{{kind: '{KINDS}:Several', of: [{{kind: rules}}], tiers: [{{use: {{kind: '{KINDS}:Leaf', neighbours: 3}}}}]}}"
    )
    text = swap("{kind: rules}", f"{{kind: cascade, of: [{{kind: rules}}, {use}]}}")
    router: Any = read(tmp_path, text).settings.router.use
    assert [tier.kind for tier in router.of] == ["rules", f"{KINDS}:Several"]
    assert router.of[1].tiers[0].use.neighbours == 3


def test_mistakes_in_nested_kinds_have_their_place(tmp_path: Path) -> None:
    """However deep."""
    use = (
        f"\n    kind: '{KINDS}:Several'\n    of:\n      - kind: cascade\n        of:\n          - kind: rulez\n"
        f"          - kind: rules\n            x: 1\n    tiers:\n      - use:\n          kind: '{KINDS}:Leaf'\n"
        "          neighbours: 0"
    )
    lines = told(tmp_path, swap(" {kind: rules}", use))
    assert [line.split(": ")[:2] for line in lines] == [
        ["15", "router.use.of.0.of.0.kind"],
        ["17", "router.use.of.0.of.1.x"],
        ["21", "router.use.tiers.0.use.neighbours"],
    ]


# --- include ----------------------------------------------------------------------------------------------------------------------


def test_included_files_add_to_the_tables(tmp_path: Path) -> None:
    """Names and globs, relative to the main file; globs in alphabetical order; every line in its own file."""
    wrote(tmp_path, "routes:\n  extra: {ladder: [cloud]}\nserver: {port: 81}\n", "conf.d/b.yaml")
    wrote(tmp_path, "models:\n  extra: route/extra\n", "conf.d/a.yaml")
    loaded = read(tmp_path, "include: [conf.d/*.yaml]\n" + GOOD + "server: {host: 127.0.0.2}\n")
    assert loaded.files == tuple(tmp_path / name for name in ("weir.yaml", "conf.d/a.yaml", "conf.d/b.yaml"))
    assert loaded.folders == (tmp_path / "conf.d",)
    assert set(loaded.watched) == {*loaded.files, *loaded.folders, loaded.calibrations}
    assert list(loaded.settings.routes) == ["small", "general", "extra"]
    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.2", 81)
    place = loaded.lines.at(("routes", "extra", "ladder", 0))
    assert (place.file, place.line) == (str(tmp_path / "conf.d/b.yaml"), 2)


def test_a_name_defined_twice_names_both_places(tmp_path: Path) -> None:
    """In tables of names and in others."""
    wrote(tmp_path, "server:\n  port: 81\nroutes:\n  small: {ladder: [nobody]}\ncapture: metadata\n", "other.yaml")
    text = "include: other.yaml\n" + GOOD + "server: {port: 82}\ncapture: metadata\n"
    assert told(tmp_path, text) == [
        f"other.yaml:2: server.port: is already defined at {tmp_path}/weir.yaml:23",
        f"other.yaml:4: routes.small: is already defined at {tmp_path}/weir.yaml:14",
        f"other.yaml:5: capture: is already defined at {tmp_path}/weir.yaml:24",
    ]


def test_mistakes_in_included_files_have_their_file(tmp_path: Path) -> None:
    """Syntax, keys and references."""
    wrote(tmp_path, "routes:\n  extra: {ladder: [cluod], mod: x}\n", "a.yaml")
    wrote(tmp_path, "routes: [\n", "b.yaml")
    wrote(tmp_path, "include: a.yaml\nmodels: {}\n", "c.yaml")
    lines = told(tmp_path, "include: [a.yaml, b.yaml, c.yaml, none.yaml, 3]\n" + GOOD)
    assert [line.partition(": ")[0] for line in lines] == ["1", "1", "a.yaml:2", "a.yaml:2", "b.yaml:2", "c.yaml:1"]
    assert "none.yaml: No such file" in lines[0]
    assert "only the main file may include" in lines[-1]


@pytest.mark.parametrize("pattern", ["'../*.yaml'", "weir.yaml", "'*.yaml'"])
def test_a_file_is_not_included_into_itself(tmp_path: Path, pattern: str) -> None:
    """A glob that finds the main file again changes nothing."""
    read(tmp_path / "sub", f"include: {pattern}\n" + GOOD)


@pytest.mark.parametrize("pattern", ["/etc/*.yaml", "'**x/a*'", "'[!'"])
def test_a_glob_that_cannot_be_used_never_raises(tmp_path: Path, pattern: str) -> None:
    """A mistake or nothing found."""
    found(tmp_path, f"include: [{pattern}]\n" + GOOD)


# --- examples, digest -------------------------------------------------------------------------------------------------------------


def test_examples_may_be_a_file(tmp_path: Path) -> None:
    """One text a line, relative to the configuration; the file is watched, and its content counts for the digest."""
    examples = wrote(tmp_path, "move money\n\n  pay a bill  \n# a tag\n", "ex/intents.txt")
    text = swap("    mode: enforce", "    examples: ex/${WHICH:-intents}.txt")
    loaded = read(tmp_path, text)
    assert loaded.settings.routes["small"].examples == ("move money", "pay a bill", "# a tag")
    assert loaded.files[-1] == examples
    examples.write_text("something else\n")
    assert read(tmp_path, text).digest != loaded.digest


def test_an_example_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """Most likely somebody wrote a text and no list."""
    (line,) = told(tmp_path, swap("    mode: enforce", "    examples: how do I pay"))
    assert line.startswith("17: routes.small.examples: No such file or directory")
    assert "texts are a list" in line


def test_the_digest_is_of_the_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, order of keys and secrets change nothing; a value or a variable's value does."""
    text = swap("    cloud: true", "    base_url: http://${HOST:-a}")
    digest = read(tmp_path, text).digest
    monkeypatch.setenv("WEIR_TEST_KEY", "sk-other")
    assert read(tmp_path, "# hello\n" + text).digest == digest
    assert read(tmp_path, swap("{input: 1, output: 2}", "{output: 2.0, input: 1}", text)).digest == digest
    assert read(tmp_path, text, {"HOST": "b"}).digest != digest
    assert read(tmp_path, swap("risk: 0.01", "risk: 0.02", text)).digest != digest


# --- whatever it is ---------------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["kind", "backends", "router", "routes", "models", "use", "of", "rules", "cascade", "ladder", "match", "examples", "x",
     "default", "access", "open", "keys", "server", "accept", "validators", "include", "*.yaml", "${A}", "${A:-b}", "price",
     f"{KINDS}:Cloud", f"{KINDS}:Several", "api_key", "headers", "schema", "through", "<<", "", "sys:exit", "host", "0.0.0.0"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@settings(suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow))
@given(st.dictionaries(WORDS, VALUES, max_size=6), st.sampled_from(["", *yaml.safe_load(GOOD)]))
def test_loading_raises_nothing_but_config_errors(tmp_path: Path, data: dict[str, Any], kept: str) -> None:
    """Whatever tables a file holds, also beside good ones: Settings, or a ConfigError with at least one error."""
    good = yaml.safe_load(GOOD)
    path = wrote(tmp_path, yaml.safe_dump({**good, **data} if kept else data))
    _, error = attempt(path)
    assert error is None or any(mistake.severity == "error" for mistake in error.mistakes)


@settings(suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow))
@given(st.data())
def test_one_wrong_value_anywhere_in_a_good_file(tmp_path: Path, data: st.DataObject) -> None:
    """A good file with any one value replaced is loaded or refused, never a crash."""
    good: Any = yaml.safe_load(GOOD)
    table = good
    while True:
        key = data.draw(st.sampled_from(sorted(table) if isinstance(table, dict) else range(len(table))))
        if not isinstance(table[key], dict | list) or not table[key] or data.draw(st.booleans()):
            break
        table = table[key]
    table[key] = data.draw(VALUES)
    path = wrote(tmp_path, yaml.safe_dump(good))
    _, error = attempt(path)
    assert error is None or any(mistake.severity == "error" for mistake in error.mistakes)
