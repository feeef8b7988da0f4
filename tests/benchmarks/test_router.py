"""What the router's benchmark measures on. Never how fast it is."""

import asyncio

from benchmarks import report, router
from embed.static import StaticTable
from gateway.app import Resources
from gateway.demo import traffic
from gateway.demo.run import DATA


def test_texts_have_sixty_four_tokens_and_are_never_shown_twice() -> None:
    """What the goal is stated for: unseen texts of exactly 64 tokens; an invented word does not change that."""
    table = StaticTable.load(report.ROOT / router.STATIC)
    writer = router.Writer(table, router.words(traffic.load(DATA)), seed=1)
    texts = [writer.text(invented=at % 2 == 1) for at in range(60)]
    assert len(set(texts)) == 60
    assert {len(table.ids(text)) for text in texts} == {router.TOKENS}
    assert all(len(text) <= 512 for text in texts[::2]), "the table reads no more"


def test_no_tier_is_spared() -> None:
    """The queries are chats without a schema: rules leave them to the static tier, with two routes as with 150."""
    data = traffic.load(DATA)
    cascade = router.many_routes(data, Resources(report.ROOT))
    scores = asyncio.run(cascade.score(router.query("what is the weather like")))
    assert scores.source == "embedding"
    assert len(scores.by_route) == 150
