"""Train the committee of a head (embed/head.py) with torch on the CPU. Deterministic for a seed and a number of threads."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Array = npt.NDArray[Any]


class Recipe(Struct, frozen=True):
    """How a head is trained. Chosen on CLINC150's val and oos (train, val) only."""

    hidden: int = 256
    members: int = 3
    epochs: int = 25
    rate: float = 2e-3
    """Highest learning rate of the one-cycle schedule (AdamW)."""
    dropout: float = 0.5
    """Of the features. More dropout and smoothing hardly change accuracy, but rank wrong answers lower."""
    hidden_dropout: float = 0.5
    smoothing: float = 0.1
    weight: float = 3.0
    """Of the rare out-of-scope class in the loss."""
    pull: float = 1.0
    """See embed/head.py. It trades errors in scope for errors out of scope: 0, 1, 2 give 0.55, 0.51, 0.61 % wrong in scope and
    2.5, 1.0, 1.0 % of out of scope accepted, both at 85 % coverage of val."""
    centroid: int = 384
    """The last so many features make the centroids."""
    batch: int = 256


def committee(
    x: Array, y: Array, labels: int, rare: int | None, recipe: Recipe, seed: int, scale_by: Array
) -> dict[str, Array]:
    """Train on features x (n, in) and label indices y (n,). Returns embed.head's arrays, but for the knots.

    rare: index of the label that gets `recipe.weight` and no centroid; None: there is none. scale_by: features (m, in) that
    give mean and spread.
    """
    mean, spread = scale_by.mean(axis=0), scale_by.std(axis=0)
    spread = np.maximum(spread, 0.05 * np.median(spread))  # a feature that hardly varies must not blow up a weight
    z = ((x - mean) / spread).astype(np.float32)
    nets = [_member(z, y, labels, rare, recipe, seed * 100 + i) for i in range(recipe.members)]
    last = x[:, -recipe.centroid :]
    centroids = np.stack([last[y == c].mean(axis=0) if c != rare else np.zeros(last.shape[1]) for c in range(labels)])
    centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    return {
        "mean": mean.astype(np.float32),
        # The standardisation's divisor is folded into the first layer.
        "w1": np.concatenate([w1.T / spread[:, None] for w1, _, _, _ in nets], axis=1).astype(np.float16),
        "b1": np.concatenate([b1 for _, b1, _, _ in nets]).astype(np.float32),
        "w2": np.stack([w2.T for _, _, w2, _ in nets]).astype(np.float16),
        "b2": np.stack([b2 for _, _, _, b2 in nets]).astype(np.float32),
        "centroids": centroids.astype(np.float16),
        "pull": np.array([recipe.pull], np.float32),
    }


def joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """One head of several committees that share mean and centroids (the rare label has none, the others' texts are the same)."""
    whole = dict(parts[0])
    whole["w1"] = np.concatenate([part["w1"] for part in parts], axis=1)
    whole["b1"] = np.concatenate([part["b1"] for part in parts])
    whole["w2"] = np.concatenate([part["w2"] for part in parts])
    whole["b2"] = np.concatenate([part["b2"] for part in parts])
    return whole


def parted(whole: dict[str, Array], count: int) -> list[dict[str, Array]]:
    """The `count` committees that `joined` made one head of, in their order; all of the same size."""
    members, hidden, _ = whole["w2"].shape
    size = members // count
    return [
        whole
        | {
            "w1": whole["w1"][:, i * size * hidden : (i + 1) * size * hidden],
            "b1": whole["b1"][i * size * hidden : (i + 1) * size * hidden],
            "w2": whole["w2"][i * size : (i + 1) * size],
            "b2": whole["b2"][i * size : (i + 1) * size],
        }
        for i in range(count)
    ]


def _member(
    z: Array, y: Array, labels: int, rare: int | None, recipe: Recipe, seed: int
) -> tuple[Array, Array, Array, Array]:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Dropout(recipe.dropout),
        nn.Linear(z.shape[1], recipe.hidden),
        nn.ReLU(),
        nn.Dropout(recipe.hidden_dropout),
        nn.Linear(recipe.hidden, labels),
    )
    weight = torch.ones(labels)
    if rare is not None:
        weight[rare] = recipe.weight
    loss_of = nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.smoothing)
    inputs, targets = torch.from_numpy(z), torch.from_numpy(y)
    batches = len(z) // recipe.batch
    steps = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(steps, max_lr=recipe.rate, total_steps=recipe.epochs * batches + 1)
    order = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        shuffled = torch.randperm(len(z), generator=order)
        for i in range(batches):
            chosen = shuffled[i * recipe.batch : (i + 1) * recipe.batch]
            loss = loss_of(net(inputs[chosen]), targets[chosen])
            steps.zero_grad()
            loss.backward()
            steps.step()
            cycle.step()
    first, second = net[1], net[4]
    return tuple(p.detach().numpy() for p in (first.weight, first.bias, second.weight, second.bias))


def pack(arrays: dict[str, Array]) -> bytes:
    """As .npz without pickle. Equal arrays give equal bytes."""
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
