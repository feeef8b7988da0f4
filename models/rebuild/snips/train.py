"""A Llama of 2.5 million parameters, trained from scratch to answer an utterance with a tool call.

What was tried is in the card. Loss stands on the answer; a tenth of it on the utterance, which teaches what words mean to each other.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from models.rebuild.snips import data, words
from models.rebuild.snips.data import Utterance

BATCH = 64
RATE, WARMUP, DECAY = 2e-3, 300, 0.05
DROPOUT = 0.1
PROMPT_WEIGHT = 0.1
SWAPPED, SHARE = 0.6, 0.6
PAD = 2


HIDDEN, LAYERS, HEADS, INNER = 192, 5, 6, 512
"""Heads of 32: vLLM's CPU attention knows no smaller ones."""
EPOCHS, SEED = 20, 7

Encoded = tuple[list[int], int]
"""Token ids of prompt and answer together, and how many of them are the prompt's."""


def model(vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=PAD,
            attention_dropout=0.0,
            attn_implementation="eager",  # the fastest here: 0.52 s a step, sdpa 0.70 s
            rope_theta=10_000.0,
        )
    )
    for layer in made.model.layers:  # Llama has no residual dropout of its own
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            part.register_forward_hook(_dropped)
    return made


def _dropped(module: nn.Module, _: Any, out: torch.Tensor) -> torch.Tensor:
    return nn.functional.dropout(out, DROPOUT, module.training)


def encode(tokenizer: Any, utterances: Sequence[Utterance]) -> list[Encoded]:
    prompts = tokenizer.encode_batch([words.prompt(u.text) for u in utterances], add_special_tokens=False)
    answers = tokenizer.encode_batch([data.answer(u) + "</s>" for u in utterances], add_special_tokens=False)
    return [(p.ids + a.ids, len(p.ids)) for p, a in zip(prompts, answers, strict=True)]


def batches(encoded: list[Encoded], chance: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, weights), both (batch, length): batches of alike lengths, in random order."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]) + chance.random() * 8)
    groups = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    chance.shuffle(groups)
    for group in groups:
        longest = max(len(encoded[i][0]) for i in group)
        ids = torch.full((len(group), longest), PAD)
        weights = torch.zeros(len(group), longest)
        for row, i in enumerate(group):
            tokens, asked = encoded[i]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            weights[row, : len(tokens)] = 1.0
            weights[row, :asked] = PROMPT_WEIGHT
        yield ids, weights


def loss_of(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the cross entropy of every next token."""
    each = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    return (each * weight).sum() / weight.sum()


def train(tokenizer: Any, utterances: Sequence[Utterance]) -> Any:
    """The trained model, in evaluation mode."""
    torch.set_num_threads(2)
    chance = random.Random(SEED)
    net = model(tokenizer.get_vocab_size())
    net.train()
    print(f"parameters: {sum(p.numel() for p in net.parameters()):,}", flush=True)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}], lr=RATE, betas=(0.9, 0.98)
    )
    total = EPOCHS * math.ceil(len(utterances) / BATCH)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * min(1.0, s / total))) + 1e-3)
    )
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        # The last two epochs see what was really said.
        swapped = SWAPPED if epoch < EPOCHS - 2 else SWAPPED / 4
        encoded = encode(tokenizer, list(data.each(utterances, chance, swapped, SHARE)))
        sums, count = 0.0, 0
        for ids, weights in batches(encoded, chance):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = net(input_ids=ids).logits
            loss = loss_of(logits, ids, weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            rate.step()
            sums, count = sums + loss.item(), count + 1
        print(f"epoch {epoch + 1}: loss {sums / count:.4f} ({time.perf_counter() - started:.0f} s)", flush=True)
    return net.eval()
