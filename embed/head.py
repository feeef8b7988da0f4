"""A trained head: from an embedding to labels and to a probability that the best label is right. numpy only.

A head is a small committee of networks with one hidden layer each (their probabilities are averaged), stored as .npz without
pickle. The score of an answer is the committee's probability times exp(pull * (cosine to the label's centroid - 1)): a text
that the networks are sure of but that lies far from everything they know is probably out of scope. What the score is worth as
a probability comes from knots that were fitted on texts the networks had not been trained on.
"""

from io import BytesIO
from math import exp
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from embed.errors import EmbedError

Vector = npt.NDArray[np.float32]


class Answer(Struct, frozen=True):
    """What a head says of one text."""

    label: int
    """Index of the best label that may be delivered."""
    score: float
    """In [0, 1]; ranks answers, promises nothing."""
    probability: float
    """That the label is right, calibrated, in [0, 1]."""


class Head:
    """Immutable; safe to share."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.float32]], labels: int, never: frozenset[int]) -> None:
        """arrays: mean (in,), w1 (in, members * hidden), b1 (members * hidden,), w2 (members, hidden, labels),
        b2 (members, labels), centroids (labels, k) of the last k features, of length 1 (zeros: no centroid), pull (1,),
        knots_score and knots_probability (knots,), ascending.

        never: indices of labels that are never delivered. Raises EmbedError when the shapes do not fit each other.
        """
        self._mean, self._w1, self._b1 = (np.ascontiguousarray(arrays[k], np.float32) for k in ("mean", "w1", "b1"))
        self._w2, self._b2 = np.ascontiguousarray(arrays["w2"], np.float32), arrays["b2"].astype(np.float32)
        self._centroids, self._pull = arrays["centroids"].astype(np.float32), float(arrays["pull"][0])
        self._knots = arrays["knots_score"].astype(np.float64), arrays["knots_probability"].astype(np.float64)
        members, hidden, width = self._w2.shape
        if (
            self._w1.shape != (len(self._mean), members * hidden)
            or self._b2.shape != (members, labels)
            or width != labels
        ):
            raise EmbedError(f"the head is for {width} labels and {len(self._mean)} features, shapes do not fit")
        self.features = len(self._mean)
        self._allowed = np.ones(labels, np.float32)
        self._allowed[sorted(never)] = 0.0

    @classmethod
    def load(cls, data: bytes, labels: int, never: frozenset[int]) -> "Head":
        """From the bytes of an .npz file. Raises EmbedError."""
        try:
            with np.load(BytesIO(data), allow_pickle=False) as file:
                return cls({name: file[name] for name in file.files}, labels, never)
        except (ValueError, KeyError, IndexError, OSError, EOFError, BadZipFile) as exc:
            raise EmbedError(f"not a head: {exc!r}") from exc

    def distribution(self, features: Vector) -> Vector:
        """Mean over the committee of its members' softmax: (labels,), the ones never delivered included."""
        hidden = np.maximum((features - self._mean) @ self._w1 + self._b1, 0.0).reshape(len(self._w2), 1, -1)
        logits = (hidden @ self._w2)[:, 0, :] + self._b2
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        share: Vector = (raised / raised.sum(axis=1, keepdims=True)).mean(axis=0)
        return share

    def answer(self, features: Vector) -> Answer:
        """The best deliverable label for one text's features (in,), with its calibrated probability.

        The last k features must be a vector of length 1, as the encoders give it.
        """
        share = self.distribution(features) * self._allowed
        label = int(share.argmax())
        near = self._centroids[label]
        cosine = float(features[-len(near) :] @ near)
        score = float(share[label]) * exp(self._pull * (cosine - 1.0))
        return Answer(label, score, float(np.interp(score, *self._knots)))
