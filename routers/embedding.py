"""`kind: embedding`: routes from a few examples and a sentence each, over static token embeddings. Nothing is trained.

How a text is scored, all in closed form (a route with 1 to 20 examples has nothing to train on):

1. Space. The examples are centred and whitened by their pooled within-route covariance, both shrunk (towards no shift and
   towards the identity) as far as few examples demand: one route with one example is plain cosine similarity.
2. Similarity to a route: half cosine to its centroid, half cosine to its nearest example. The first is right for a
   narrow route, the second for a broad one; three neighbours instead of one were worse in every setting tried.
3. Which route: softmax of the similarities; the temperature is the likeliest one when each example is left out in turn.
4. Whether any: how similar an example is to its own route when it is left out, against how similar it is to the best
   other route (as if its own were not configured): two normal distributions, whose odds are the answer. Both begin
   at shipped constants that weigh as much as PRIOR_WEIGHT observations, so three examples move them a little and fifty
   a lot. This is preferred to a conformal p-value, which is uniform for requests in scope: the same examples, but a
   number that can be compared with a score.

score = P(any) * P(route | any), out_of_scope = 1 - P(any): together they sum to 1, and "low" means "unknown", whichever
of the two made it so. An empty text, or one without a known token, is not scored.

Measured on CLINC150, 150 routes of 10 examples each, mean of 3 draws from train; the constants were chosen on val, test was
read once (static-minilm-256; a plain centroid in brackets):
    right route          val 82.7 % (79.5)    test 81.7 % (78.9)
    out-of-scope AUROC   val .936 (.901)      test .942 (.883)
    score >= 0.5         test: 61 % of in-scope requests, 94 % of them right; 2.7 % of out-of-scope ones
    3 examples each      val 72.1 % (68.1), .914 (.874); score >= 0.5: 46 %, 93 % right; 1.7 % of out-of-scope
    built in 0.06 s, scored in about 0.1 ms on one core, encoding included; three routes of five examples in 0.025 ms
"""

from collections.abc import Mapping, Sequence
from math import exp, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from routers.base import RouterConfig, RouterResources, RouteSpec
from wire.types import Query, Scores

if TYPE_CHECKING:
    from embed.static import StaticTable

Array = npt.NDArray[np.float32]

EXAMPLES = 4096
"""Examples that are kept for the nearest-example search, over all routes; centroids are made of all of them."""
SHRINK = 8.0
"""Identity in the covariance, as a multiple of its dimension, against the examples' degrees of freedom."""
ROUNDING = 1e-6
"""A variance that exceeds the shrunk covariance's smallest by no larger part is none."""
PRIOR_WEIGHT = 5.0
PRIOR_OWN, PRIOR_OTHER, PRIOR_SPREAD = 0.55, 0.25, 0.13
"""Similarity to the own and to the best other route, and their common deviation, before any example was seen."""
PRIOR_TEMPERATURE, TEMPERATURE_WEIGHT = 0.08, 20.0
TEMPERATURES = np.geomspace(0.02, 0.3, 25)
LARGEST = 700.0
"""The exponential of a larger number is none."""


class EmbeddingConfig(RouterConfig):
    kind: str = "embedding"
    folder: Path = Field(Path("models/static-minilm-256"), description="static embedding table")
    temperature: float | None = Field(
        None, gt=0, le=1, description="of the softmax over routes; default: fitted to the examples"
    )


class Embedding:
    """Scores the routes that have `examples` or a `description`. See the file's head.

    `facts` says what was fitted: for `weir explain` and for the hash of the router.
    """

    Config = EmbeddingConfig

    def __init__(self, config: EmbeddingConfig, routes: Sequence[RouteSpec], resources: RouterResources) -> None:
        """Takes well under a second for a thousand examples. Raises embed.errors.EmbedError for an unusable table."""
        self._table = resources.static_table(config.folder)
        named = [(route.name, vectors) for route in routes if len(vectors := _vectors(self._table, route))]
        self._names = tuple(name for name, _ in named)
        self.facts: Mapping[str, Any] = {"table": self._table.digest, "routes": len(named)}
        if not named:
            return
        self._space = _Space.of([vectors for _, vectors in named])
        warped = [self._space.warp(vectors) for _, vectors in named]
        kept = [_spread(vectors, max(1, EXAMPLES // len(warped))) for vectors in warped]
        starts = np.cumsum([0, *map(len, kept[:-1])])
        centroids = _unit(np.stack([vectors.mean(0) for vectors in warped]))
        examples = np.concatenate(kept)
        self._nearness = _Nearness.of(self._space, examples, starts, centroids)
        own = np.repeat(np.arange(len(kept)), [len(vectors) for vectors in kept])
        totals = np.stack([vectors.sum(0) for vectors in warped])
        self._fit = _fit(_left_out(examples, own, totals, centroids, starts), own)
        if config.temperature is not None:
            self._fit = self._fit._replace(temperature=config.temperature)
        self.facts = {**self.facts, "examples": len(examples), **self._fit._asdict()}

    async def score(self, query: Query) -> Scores:
        try:
            vector = self._table.encode(query.text)
        except UnicodeError:  # half a surrogate pair is no valid text
            vector = self._table.encode(query.text.encode("utf-8", "replace").decode())
        if not self._names or not vector.dot(vector):
            return Scores({}, None, "embedding")
        near, length = self._nearness.measure(vector)
        slope, middle, temperature = self._fit
        # Floats and plain loops: arrays cost 4 us more for three routes (forty are even), and each further function or comprehension 1 to
        # 2 us in a server, where other work has emptied the processor's caches.
        nearest, spread = max(near), length * temperature
        known = 1 / (1 + exp(min(slope * (middle - nearest / length), LARGEST)))
        by_route: dict[str, float] = {}
        total = 0.0
        for name, one in zip(self._names, near, strict=True):
            by_route[name] = odds = exp((one - nearest) / spread)
            total += odds
        for name in self._names:
            by_route[name] *= known / total
        return Scores(by_route, 1 - known, "embedding")


def _vectors(table: "StaticTable", route: RouteSpec) -> Array:
    """The route's texts, each once, as (n, dim); the description is one more example. Texts of no known token are left
    out, so n may be 0."""
    texts = [text.strip() for text in (*route.examples, route.description)]
    unique = list(dict.fromkeys(text for text in texts if text))
    found = [vector for text in unique if (vector := table.encode(text)).any()]
    return np.stack(found) if found else np.zeros((0, table.dim), np.float32)


def _spread(vectors: Array, most: int) -> Array:
    """At most `most` of the rows, evenly over them."""
    if len(vectors) <= most:
        return vectors
    return vectors[np.linspace(0, len(vectors) - 1, most).astype(np.intp)]


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-6))
    return unit


class _Space(NamedTuple):
    """Where similarities are measured: `(x - centre) @ whiten`, of length 1."""

    centre: Array
    whiten: Array
    """(dim, dim), symmetric. Directions in which the examples do not vary, most of them when there are few, it stretches alike."""
    stretch: float
    """By so much, squared."""
    spared: Array
    """(k, dim): the k directions in which they do vary, each as long as its square of stretching falls short of `stretch`:
    |x @ whiten|^2 = stretch |x|^2 - |spared @ x|^2."""

    @classmethod
    def of(cls, routes: Sequence[Array]) -> "_Space":
        count, dim = len(routes), routes[0].shape[1]
        means = np.stack([vectors.mean(0) for vectors in routes])
        centre = (means.mean(0) * (count - 1) / count).astype(np.float32)
        rest = np.concatenate([vectors - mean for vectors, mean in zip(routes, means, strict=True)])
        freedom = len(rest) - count
        scatter = rest.T @ rest
        size = float(np.trace(scatter)) / dim
        if size < 1e-6:  # one example a route: nothing is known of how examples differ
            return cls(centre, np.eye(dim, dtype=np.float32), 1.0, np.zeros((0, dim), np.float32))
        shrink = SHRINK * dim / (SHRINK * dim + freedom)
        values, axes = np.linalg.eigh((1 - shrink) * scatter / size + shrink * np.eye(dim))
        whiten = (axes / np.sqrt(values)) @ axes.T
        varied = values > shrink * (1 + ROUNDING)
        spared = (axes[:, varied] * np.sqrt(1 / shrink - 1 / values[varied])).T
        return cls(centre, whiten.astype(np.float32), 1 / shrink, spared.astype(np.float32))

    def warp(self, vectors: Array) -> Array:
        return _unit(np.asarray((vectors - self.centre) @ self.whiten, np.float32))


class _Nearness(NamedTuple):
    """What is measured of a new text, in one product with its centred vector. Neither the whitened vector nor the matrix that makes it
    is needed: what follows the encoding takes 8 us instead of 28 for three routes of five examples.

    The product's parts are half the examples and half the centroids, whitened both before and for the text (they stand on both
    sides of the product), and the space's spared directions, for the length of the text's whitened vector.
    """

    space: _Space
    rows: Array
    """(examples + routes + spared, dim)."""
    starts: npt.NDArray[np.intp]
    """Each route's first example."""
    examples: int
    points: int
    """Examples and routes together."""

    @classmethod
    def of(cls, space: _Space, examples: Array, starts: npt.NDArray[np.intp], centroids: Array) -> "_Nearness":
        points = np.concatenate([examples, centroids]) @ (space.whiten / 2)
        return cls(space, np.concatenate([points, space.spared]), starts, len(examples), len(points))

    def measure(self, vector: Array) -> tuple[list[float], float]:
        """Of one text's vector (dim,): how similar it is to each route, half to its centroid and half to its nearest example, and by
        how much those numbers are too large: the length of the whitened vector."""
        space, rows, starts, examples, points = self
        centred = vector - space.centre
        found = rows.dot(centred)  # as a method: 0.5 us less than `@`, each time
        spared = found[points:]
        square = space.stretch * centred.dot(centred) - spared.dot(spared)
        near = np.maximum.reduceat(found[:examples], starts)
        near += found[examples:points]
        return near.tolist(), sqrt(max(square, 1e-12))


def _left_out(examples: Array, own: npt.NDArray[np.intp], totals: Array, centroids: Array, starts: Any) -> Array:
    """Similarity of every example to every route, (n, routes), to its own as if it had not been given.

    NaN where an example is alone in its route: without it there is no route.
    """
    rows = np.arange(len(examples))
    near = examples @ examples.T
    near[rows, rows] = -np.inf
    nearest = np.maximum.reduceat(near, starts, axis=1)
    similar: Array = np.asarray(0.5 * (examples @ centroids.T) + 0.5 * nearest, np.float32)
    without = _unit(totals[own] - examples)
    mine = 0.5 * (examples * without).sum(1) + 0.5 * nearest[rows, own]
    similar[rows, own] = np.where(np.isfinite(mine), mine, np.nan)
    return similar


class _Fit(NamedTuple):
    slope: float
    middle: float
    """P(any) = 1 / (1 + exp(-slope * (best similarity - middle)))."""
    temperature: float


def _fit(similar: Array, own: npt.NDArray[np.intp]) -> _Fit:
    """From left-out similarities (n, routes): the constants of the file's head, moved by what was seen."""
    rows = np.arange(len(own))
    mine = similar[rows, own]
    usable = np.isfinite(mine)
    mine = mine[usable].astype(np.float64)
    others = similar.astype(np.float64)
    others[rows, own] = -np.inf
    other = others.max(1) if similar.shape[1] > 1 else np.zeros(0)
    # Examples of one route meet the same other routes: together they are one observation.
    seen = similar.shape[1] if len(other) else 0
    weight = PRIOR_WEIGHT
    mean_own = (mine.sum() + weight * PRIOR_OWN) / (len(mine) + weight)
    mean_other = ((seen * other.mean() if seen else 0.0) + weight * PRIOR_OTHER) / (seen + weight)
    squares = ((mine - mean_own) ** 2).sum() + (seen * ((other - mean_other) ** 2).mean() if seen else 0.0)
    variance = (squares + 2 * weight * PRIOR_SPREAD**2) / (len(mine) + seen + 2 * weight)
    slope = max(mean_own - mean_other, 0.05) / variance
    temperature = _temperature(similar[usable].astype(np.float64), own[usable])
    return _Fit(float(slope), float((mean_own + mean_other) / 2), temperature)


def _temperature(similar: npt.NDArray[np.float64], own: npt.NDArray[np.intp]) -> float:
    """The likeliest of TEMPERATURES, held to PRIOR_TEMPERATURE by TEMPERATURE_WEIGHT."""
    losses = []
    for temperature in TEMPERATURES:
        loss = TEMPERATURE_WEIGHT * np.log(temperature / PRIOR_TEMPERATURE) ** 2
        if len(own) and similar.shape[1] > 1:
            logits = similar / temperature
            logits -= logits.max(1, keepdims=True)
            loss += (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(own)), own]).sum()
        losses.append(loss)
    return float(TEMPERATURES[int(np.argmin(losses))])
