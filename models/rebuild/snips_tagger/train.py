"""all-MiniLM-L6-v2, trained on to say of an utterance which function it calls, and of each of its words which slot it belongs to.

Logits of functions are read at [CLS], those of tags at the first piece of each word. What was tried is in the card.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from embed.tagging import Spec
from models.rebuild.snips import data
from models.rebuild.snips.data import Utterance
from models.rebuild.snips_tagger.labels import NOTHING, Row, row_of
from models.rebuild.source import minilm_folder

EPOCHS, SEED, BATCH = 6, 0, 32
BODY_RATE, HEAD_RATE, WARMUP, DECAY = 2e-4, 2e-3, 200, 0.01
DROPOUT = 0.1
INTENT_WEIGHT = 0.3
SWAPPED, SHARE = 0.3, 0.6
ALIKE = 20
"""Batches that are sorted by length together."""


class Net(nn.Module):  # type: ignore[misc]
    """(pieces, mask), each (texts, pieces) > logits of functions (texts, functions) and of tags (texts, pieces, tags)."""

    def __init__(self, spec: Spec) -> None:
        from transformers import AutoModel

        super().__init__()
        self.body = AutoModel.from_pretrained(minilm_folder(), attn_implementation="eager")
        width = self.body.config.hidden_size
        self.drop = nn.Dropout(DROPOUT)
        self.intent = nn.Linear(width, len(spec.functions))
        self.tag = nn.Linear(width, len(spec.tags))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.drop(self.body(input_ids=ids, attention_mask=mask).last_hidden_state)
        return self.intent(states[:, 0]), self.tag(states)


def padded(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(pieces, mask, labels, functions) of a batch."""
    longest = max(len(ids) for ids, _, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, NOTHING)
    for at, (pieces, told, _) in enumerate(rows):
        ids[at, : len(pieces)] = torch.tensor(pieces)
        labels[at, : len(pieces)] = torch.tensor(told)
        mask[at, : len(pieces)] = 1
    return ids, mask, labels, torch.tensor([function for _, _, function in rows])


def batches(rows: Sequence[Row], chance: random.Random) -> Iterator[Sequence[Row]]:
    """Batches of alike lengths, in random order."""
    size = BATCH * ALIKE
    chunks = [sorted(rows[at : at + size], key=lambda row: len(row[0])) for at in range(0, len(rows), size)]
    found = [chunk[at : at + BATCH] for chunk in chunks for at in range(0, len(chunk), BATCH)]
    chance.shuffle(found)
    yield from found


def train(tokenizer: Any, spec: Spec, utterances: Sequence[Utterance]) -> Net:
    """The trained model, in evaluation mode."""
    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    chance = random.Random(SEED)
    net = Net(spec)
    heads = [*net.intent.parameters(), *net.tag.parameters()]
    groups = [{"params": list(net.body.parameters()), "lr": BODY_RATE}, {"params": heads, "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    steps = EPOCHS * math.ceil(len(utterances) / BATCH)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, (s + 1) / WARMUP) * max(0.0, 1 - s / steps))
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        net.train()
        rows = [row_of(u, tokenizer, spec) for u in data.each(utterances, chance, SWAPPED, SHARE)]
        losses = []
        for group in batches(rows, chance):
            ids, mask, labels, functions = padded(group)
            with torch.autocast("cpu", torch.bfloat16):
                intents, tags = net(ids, mask)
            loss = nn.functional.cross_entropy(tags.float().flatten(0, 1), labels.flatten(), ignore_index=NOTHING)
            loss = loss + INTENT_WEIGHT * nn.functional.cross_entropy(intents.float(), functions)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            rate.step()
            losses.append(loss.item())
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}: loss {mean:.4f} ({time.perf_counter() - started:.0f} s)", flush=True)
    net.eval()
    return net


def export(net: Net, target: str) -> None:
    """ONNX in float32: input_ids, attention_mask > functions, tags."""
    ids = torch.tensor([[101, 2023, 2003, 102], [101, 2023, 102, 0]])
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "texts", 1: "pieces"} for name in (*names, "tags")} | {"functions": {0: "texts"}}
    torch.onnx.export(
        net.eval(),
        (ids, (ids > 0).long()),
        target,
        input_names=names,
        output_names=["functions", "tags"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
