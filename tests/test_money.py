"""gateway.money: costs and estimates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import cost, counterfactual, estimate
from wire.types import Price, Tokens

counts = st.integers(-10, 10**9)
prices = st.builds(Price, input=st.floats(0, 1000), cached_input=st.floats(0, 1000), output=st.floats(0, 1000))
tokens = st.builds(Tokens, input=counts, cached_input=counts, output=counts)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def test_cached_tokens_are_part_of_input_tokens() -> None:
    """1,000 input tokens of which 400 cached: 600 at the full price, 400 at the cached one."""
    price = Price(input=1.25, cached_input=0.125, output=10.0)
    assert cost(Tokens(input=1000, cached_input=400, output=50), price) == pytest.approx(
        (600 * 1.25 + 400 * 0.125 + 50 * 10.0) / 1e6
    )


@given(tokens, prices)
def test_a_cost_is_never_negative(used: Tokens, price: Price) -> None:
    """Whatever an upstream counts, an answer never earns money."""
    assert cost(used, price) >= 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), prices)
def test_caching_more_costs_the_difference(input: int, cached: int, output: int, price: Price) -> None:
    """Cost lies between nothing cached and all cached."""
    cached = min(cached, input)
    some = cost(Tokens(input=input, cached_input=cached, output=output), price)
    ends = [cost(Tokens(input=input, cached_input=c, output=output), price) for c in (0, input)]
    assert min(ends) - 1e-9 <= some <= max(ends) + 1e-9


@given(counts, counts, prices)
def test_what_nothing_was_cached_of_costs_to_the_bit_what_the_formula_says(
    input: int, output: int, price: Price
) -> None:
    """The usual answer is told at once, and costs no less and no more for that."""
    whole, rest = max(0, input), max(0, output)
    usd = whole * price.input + 0 * price.cached_input + rest * price.output
    assert cost(Tokens(input=input, output=output), price) == usd / 1_000_000


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=5), prices)
def test_costs_add_up(parts: list[tuple[int, int]], price: Price) -> None:
    """The cost of a sum of tokens is the sum of the costs: budgets may add attempts."""
    whole = cost(Tokens(input=sum(i for i, _ in parts), output=sum(o for _, o in parts)), price)
    assert whole == pytest.approx(sum(cost(Tokens(input=i, output=o), price) for i, o in parts))


def test_an_encoder_that_counts_no_tokens_is_compared_by_the_estimate() -> None:
    """The counterfactual of an answer without token counts is the estimate's price, not nothing."""
    price = Price(input=1.0, output=2.0)
    assert counterfactual(Tokens(), price, Tokens(input=100, output=10)) == pytest.approx(120 / 1e6)
    assert counterfactual(Tokens(input=7), price, Tokens(input=100, output=10)) == pytest.approx(7 / 1e6)


def test_the_estimate_takes_four_characters_for_a_token() -> None:
    """Messages in both spellings, tool calls, tools and the schema all count; images do not."""
    assert estimate({"messages": [{"role": "user", "content": "x" * 41}]}) == Tokens(input=11, estimated=True)
    parts = [{"type": "text", "text": "x" * 8}, {"type": "image_url", "image_url": {"url": "data:" + "y" * 4000}}]
    assert estimate({"messages": [{"role": "user", "content": parts}]}).input == 2
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{} "}}
    assert estimate({"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}).input == 1
    assert estimate({"messages": [{"content": "x" * 8, "name": "four"}]}).input == 3
    assert estimate({"messages": [{"role": "assistant", "tool_calls": [call]}]}).input == 1
    told = {"role": "assistant", "content": None, "refusal": parts[:1], "name": "four"}
    assert estimate({"messages": [told]}).input == 3
    assert estimate({"tools": [{"a": 1}]}).input == 3  # [{"a":1}]
    schema = {"name": "n", "schema": {}}  # {"name":"n","schema":{}}
    assert estimate({"response_format": {"type": "json_schema", "json_schema": schema}}).input == 6
    assert estimate({}, answer_chars=5).output == 2


@given(st.dictionaries(st.sampled_from(["messages", "tools", "functions", "response_format"]), json), st.integers())
def test_an_estimate_takes_any_body(body: dict[str, Any], chars: int) -> None:
    """Bodies are checked elsewhere: an estimate never raises and is never negative."""
    found = estimate(body, chars)
    assert found.input >= 0
    assert found.output >= 0
    assert found.estimated


@given(st.text(), st.text())
def test_more_text_never_costs_less(text: str, more: str) -> None:
    """The estimate grows with the text."""
    short = estimate({"messages": [{"role": "user", "content": text}]})
    long = estimate({"messages": [{"role": "user", "content": text + more}]})
    assert long.input >= short.input
