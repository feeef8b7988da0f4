"""A tagger's decoding: only calls that mean something, the likeliest of them, with their probability."""

from itertools import product
from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.tagging import MOST_SPLITS, Decoder, Spec, Tagged, _own, _viterbi

FUNCTIONS = {"Book": ["place", "time"], "Play": ["song"], "Stop": []}
TAGS = ["O", *(f"{kind}-{slot}" for slot in ("place", "song", "time") for kind in "BI")]
SPEC = Spec(functions=FUNCTIONS, tags=TAGS)
DECODER = Decoder(SPEC)

NUMBER = st.floats(-12, 12, width=32)


@st.composite
def scores(draw: st.DrawFn, most: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Logits of functions and of words, drawn wild: what a model says of texts it was not made for."""
    words = draw(st.integers(0, most))
    functions = np.array(draw(st.lists(NUMBER, min_size=3, max_size=3)), np.float32)
    rows = draw(st.lists(st.lists(NUMBER, min_size=len(TAGS), max_size=len(TAGS)), min_size=words, max_size=words))
    return functions, np.array(rows, np.float32).reshape(words, len(TAGS))


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    found: np.ndarray = raised / raised.sum(-1, keepdims=True)
    return found


def read(tags: tuple[str, ...]) -> dict[str, tuple[int, int]] | None:
    """Spans of a row of tags, by the rules as they are written; None for a row that breaks one."""
    found: dict[str, tuple[int, int]] = {}
    before = "O"
    for word, tag in enumerate(tags):
        kind, slot = tag[0], tag[2:]
        if kind == "I":
            if before[2:] != slot:
                return None
            found[slot] = (found[slot][0], word)
        elif kind == "B":
            if slot in found:
                return None
            found[slot] = (word, word)
        before = tag
    return found


def slowly(functions: np.ndarray, tags: np.ndarray, function: str = "") -> Tagged:
    """The likeliest call, by trying every row of tags."""
    names = list(FUNCTIONS)
    name = function or names[int(np.argmax(functions))]
    own = [tag for tag in TAGS if tag == "O" or tag[2:] in FUNCTIONS[name]]
    likely = softmax(tags) if len(tags) else tags
    best: tuple[float, dict[str, tuple[int, int]]] = (-1.0, {})
    for row in product(own, repeat=len(tags)):
        spans = read(row)
        if spans is not None:
            joint = float(np.prod([likely[word, TAGS.index(tag)] for word, tag in enumerate(row)]))
            best = max(best, (joint, spans), key=lambda one: one[0])
    sure = 1.0 if function else float(softmax(functions)[names.index(name)])
    return Tagged(name, best[1], best[0] * sure)


@given(scores(), st.sampled_from(["", *FUNCTIONS]))
def test_only_what_means_something(told: tuple[np.ndarray, np.ndarray], function: str) -> None:
    """Whatever the scores, the call has slots of its own function only, spans inside the text that do not overlap, and a probability."""
    found = DECODER.decode(*told, function)
    assert function in ("", found.function)
    assert set(found.spans) <= set(FUNCTIONS[found.function])
    words = [word for first, last in found.spans.values() for word in range(first, last + 1)]
    assert len(words) == len(set(words))
    assert set(words) <= set(range(len(told[1])))
    assert all(first <= last for first, last in found.spans.values())
    assert 0.0 < found.probability < 1.0


@settings(max_examples=60)
@given(scores(most=4), st.sampled_from(["", *FUNCTIONS]))
def test_the_likeliest_of_all(told: tuple[np.ndarray, np.ndarray], function: str) -> None:
    """No other call is likelier: the same as by trying every row of tags, also where a slot would begin twice."""
    found, wanted = DECODER.decode(*told, function), slowly(*told, function)
    assert found.function == wanted.function
    assert found.probability == pytest.approx(max(wanted.probability, 1e-9), rel=1e-6, abs=2e-9)


def logits(*rows: dict[str, float]) -> np.ndarray:
    """Rows of probabilities, the rest of each shared by the other tags."""
    found = np.zeros((len(rows), len(TAGS)))
    for word, row in enumerate(rows):
        rest = (1 - sum(row.values())) / (len(TAGS) - len(row))
        found[word] = [log(row.get(tag, rest)) for tag in TAGS]
    return found


BOOK = np.array([log(0.9), log(0.05), log(0.05)])


def test_a_slot_has_one_value() -> None:
    """Of two values of one slot the likelier stays, and the other words become what is likeliest then."""
    told = logits({"B-place": 0.6, "O": 0.3}, {"O": 0.9}, {"B-place": 0.8, "B-time": 0.1})
    found = DECODER.decode(BOOK, told)
    assert found.spans == {"place": (2, 2)}
    assert found.probability == pytest.approx(0.9 * 0.3 * 0.9 * 0.8)
    other = logits({"B-place": 0.6, "O": 0.3}, {"O": 0.9}, {"B-place": 0.5, "B-time": 0.45})
    assert DECODER.decode(BOOK, other).spans == {"place": (0, 0), "time": (2, 2)}


def test_a_value_continues_only_itself() -> None:
    """I behind O, or behind another slot, is no value: the words take what is likeliest among what is legal."""
    told = logits({"O": 0.9}, {"I-place": 0.8, "B-place": 0.15}, {"I-place": 0.9})
    assert DECODER.decode(BOOK, told).spans == {"place": (1, 2)}


def test_the_function_that_must_be_called() -> None:
    """Of a named function the probability is that of its arguments; one that is unknown is an error."""
    told = logits({"B-song": 0.7, "O": 0.2}, {"I-song": 0.6, "O": 0.3})
    assert DECODER.decode(BOOK, told).spans == {}
    found = DECODER.decode(BOOK, told, "Play")
    assert (found.function, found.spans) == ("Play", {"song": (0, 1)})
    assert found.probability == pytest.approx(0.7 * 0.6)
    with pytest.raises(ValueError, match="unknown function 'Fly'"):
        DECODER.decode(BOOK, told, "Fly")


def test_the_probability_is_mended() -> None:
    """Log-odds times scale plus shift, which changes how sure it says it is and not what it says."""
    told = logits({"B-place": 0.8}, {"O": 0.9})
    plain = DECODER.decode(BOOK, told)
    mended = Decoder(Spec(functions=FUNCTIONS, tags=TAGS, scale=0.5, shift=-1.0)).decode(BOOK, told)
    odds = log(plain.probability / (1 - plain.probability))
    assert mended.probability == pytest.approx(1 / (1 + exp(1.0 - 0.5 * odds)))
    assert (mended.function, mended.spans) == (plain.function, plain.spans)


def test_the_search_is_bounded() -> None:
    """A text that would begin every slot at every word is decoded all the same, each slot once."""
    words = 6 * MOST_SPLITS
    found = DECODER.decode(BOOK, np.tile(logits({"B-place": 0.45, "B-time": 0.45}), (words, 1)))
    assert 1 <= len(found.spans) <= 2


def test_viterbi_is_legal_from_the_first_word() -> None:
    """A text cannot begin inside a value, and -inf never wins."""
    own = _own(TAGS, ["place"])
    likely, path = _viterbi(np.array([[-5.0, -9.0, 0.0], [-5.0, -9.0, 0.0]]), own)
    assert (likely, path) == (-9.0, [1, 2])
    assert likely > -inf


@pytest.mark.parametrize("tags", [TAGS[1:], [*TAGS, "B-ghost", "I-ghost"], [*TAGS, "O"], TAGS[:-1]])
def test_tags_must_be_the_functions(tags: list[str]) -> None:
    """Tags that lack one, have one too many or one twice are refused when they are read."""
    with pytest.raises(ValueError, match="tags"):
        Decoder(Spec(functions=FUNCTIONS, tags=tags))
