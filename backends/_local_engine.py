"""A small language model, one answer at a time: chat template > tokens > text, under an Outlines grammar.

Imported by the worker process only, and by nobody else in this house: torch, transformers and Outlines are imported when it is made.
Outlines' own generation returns text alone; here tokens are wanted as they come, with log-probabilities, and an end between two of them.
So the loop is ours, and Outlines' llguidance processor masks in it (a grammar of seven tools takes 8 ms to compile, a mask 0.1 ms).
"""

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]

MASKED = -9999.0
"""vLLM's log-probability of a token that the grammar forbids."""
_GRAMMARS = 128
"""Compiled grammars that are kept."""
_PREFILL = 512
"""Tokens of a prompt that are read at once: in between it can be told to stop."""
_ENVELOPE = ("<tool_call>", "</tool_call>")


class Cannot(Exception):
    """This model cannot answer this. `kind`: unsupported or context. `detail` may quote the request, the message does not."""

    def __init__(self, kind: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail


class Engine:
    """The model in a Hugging Face folder. Nothing is downloaded, and no code of the folder is run."""

    def __init__(self, folder: Path, device: str = "cpu", dtype: str = "auto", threads: int | None = None) -> None:
        """Raises whatever torch and transformers raise."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not self.tokenizer.chat_template:
            raise ValueError("the tokenizer has no chat template")
        kind = dtype if dtype == "auto" else getattr(torch, dtype)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=kind
        )
        self._model: Any = model.to(device).eval()
        self.context = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
        self._ends = _ends(self.tokenizer, model)
        if not self._ends:
            raise ValueError("neither the tokenizer nor generation_config.json names an end token (eos_token_id)")
        self._grammars = Grammars(self.tokenizer, sorted(self._ends))
        words = self.tokenizer.get_vocab()
        envelope = {words[word] for word in _ENVELOPE if word in words}
        added = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        special = {token for token in added if self._grammars.special(token)}
        self.special = len(envelope) == len(_ENVELOPE) and envelope <= special
        """The envelope of a tool call is made of special tokens."""
        self._silent = frozenset(special - envelope) | self._ends
        self._vocabulary = int(model.config.vocab_size)

    def answer(self, order: Mapping[str, Any], stopped: Callable[[], bool]) -> Iterator[Event]:
        """Events of one order (`backends._local_order.Order`): `tokens`, and `finish` for every choice.

        stopped: asked between tokens; true ends the work without a word. Raises Cannot.
        """
        prompt = self._prompt(order)
        room = self.context - len(prompt)
        if room < 1:
            raise Cannot("context", f"the prompt has {len(prompt)} tokens, the model's context {self.context}")
        with self._torch.inference_mode():
            for choice in range(order["n"]):
                for event in self._choice(order, choice, prompt, min(room, order["max_tokens"]), stopped):
                    yield {**event, "choice": choice}
                if stopped():
                    return

    def _prompt(self, order: Mapping[str, Any]) -> list[int]:
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(
                order["messages"], tools=order["tools"] or None, add_generation_prompt=True, tokenize=False
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as exc:
            raise Cannot("unsupported", "the chat template refuses these messages", str(exc)) from exc
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise Cannot("unsupported", "the chat template makes nothing of these messages")
        return ids

    def _choice(
        self, order: Mapping[str, Any], choice: int, prompt: list[int], most: int, stopped: Callable[[], bool]
    ) -> Iterator[Event]:
        mask = self._grammars.processor(order["grammar"]) if order["grammar"] else None
        sampler = Sampler(self._torch, order, choice, self._device)
        reading = Reading(self._torch, self._model, self._device, prompt)
        stops = [text.encode() for text in order["stop"]]
        tokens: list[Any] = []
        said = b""
        used, finish, kept = 0, "length", None
        while used < most and not stopped():
            logits = self._allowed(mask, sampler.drawn)
            if logits is None or int(self._torch.isfinite(logits).sum()) > 1:
                read = reading.logits(stopped)
                if read is None:
                    return
                sampler.penalise(read)
                logits = read if logits is None else read + logits
            token = sampler.draw(logits)
            reading.add(token)
            used += 1
            if token in self._ends:
                finish = "stop"
                break
            tokens.append(self._told(token, logits, order["top"]))
            said += self._bytes(token)
            kept = _cut(said, stops, len(self._bytes(token)))
            if kept is not None:
                finish = "stop"
                break
            if order["live"]:
                yield {"event": "tokens", "tokens": tokens}
                tokens = []
        if stopped():
            return
        counts = {"prompt": len(prompt), "completion": used}
        yield {"event": "finish", "tokens": tokens, "finish": finish, "kept": kept, **counts}

    def _allowed(self, mask: Any, drawn: list[int]) -> Any:
        """(vocabulary,) float32, 0 for what the grammar allows next and -inf for the rest; None without a grammar. Known before the model
        is asked: where one token is allowed it need not be."""
        if mask is None:
            return None
        last = self._torch.tensor([drawn[-1:] or [0]])
        allowed = mask(last, self._torch.zeros(1, self._vocabulary))[0].to(self._device)
        if trouble := self._grammars.trouble(mask):
            raise Cannot("unsupported", "the grammar cannot be followed", trouble)
        return allowed

    def _bytes(self, token: int) -> bytes:
        """What a token adds to the text."""
        return b"" if token in self._silent else self._grammars.spelled(token)

    def _told(self, token: int, logits: Any, top: int) -> list[Any]:
        """[text, log-probability, [[text, log-probability], ...]], bytes as Latin-1. After the mask and before the temperature, as
        vLLM reports them; without alternatives only the text."""
        text = self._bytes(token).decode("latin-1")
        if not top:
            return [text]
        scores = self._torch.log_softmax(logits, -1)
        values, ids = scores.topk(min(top, self._vocabulary))
        pairs = zip(ids.tolist(), values.tolist(), strict=True)
        best = [[self._grammars.spelled(i).decode("latin-1"), max(value, MASKED)] for i, value in pairs]
        return [text, max(float(scores[token]), MASKED), best]


class Grammars:
    """Outlines' logits processors, compiled once per grammar; the least recently used is forgotten."""

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        import llguidance.hf
        from outlines.backends.llguidance import LLGuidanceLogitsProcessor

        known = llguidance.hf.from_tokenizer(tokenizer, eos_token=list(ends))

        class Processor(LLGuidanceLogitsProcessor):  # type: ignore[misc]
            """Outlines' own compiles again for every answer; this one keeps what was compiled."""

            compiled: Any = None

            def _setup(self, batch_size: int) -> None:
                if self.compiled is None:
                    super()._setup(batch_size)
                    self.compiled = self.ll_matchers[0].deep_copy()
                self.ll_matchers: list[Any] = [self.compiled.deep_copy() for _ in range(batch_size)]

        self._make: Callable[[str], Any] = lambda source: Processor(source, known, "torch")
        self._read: Callable[[str, str], str] = llguidance.grammar_from
        self._tokenizer = known
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def processor(self, grammar: str) -> Any:
        """Ready for a new answer. Raises Cannot for a grammar that cannot be compiled."""
        found = self._kept.get(grammar)
        if found is None:
            try:
                found = self._make(self._read("grammar" if "::=" in grammar.partition("%json")[0] else "lark", grammar))
                found._setup(1)
            except ValueError as exc:
                raise Cannot("unsupported", "the grammar cannot be compiled", str(exc)) from exc
            if trouble := self.trouble(found):
                raise Cannot("unsupported", "the grammar cannot be compiled", trouble)
            self._kept[grammar] = found
            if len(self._kept) > _GRAMMARS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(grammar)
        found.reset()
        return found

    def trouble(self, processor: Any) -> str:
        """Why its grammar cannot be followed (any further); "" when it can."""
        first, _, _ = str(processor.ll_matchers[0].get_error() or "").partition("\n")
        return first

    def special(self, token: int) -> bool:
        """No text can spell it."""
        return bool(self._tokenizer.is_special_token(token))

    def spelled(self, token: int) -> bytes:
        """A token's bytes; a special one's name."""
        data: bytes = self._tokenizer.decode_bytes([token])
        return data


class Reading:
    """What the model has read of one answer, and what it has still to read."""

    def __init__(self, torch: Any, model: Any, device: str, prompt: list[int]) -> None:
        from transformers import DynamicCache

        self._torch = torch
        self._model = model
        self._device = device
        self._cache = DynamicCache(config=model.config)
        self._unread = list(prompt)

    def add(self, token: int) -> None:
        self._unread.append(token)

    def logits(self, stopped: Callable[[], bool]) -> Any:
        """(vocabulary,) float32 after all that was added; None when it was told to stop meanwhile."""
        out: Any = None
        for at in range(0, len(self._unread), _PREFILL):
            if stopped():
                return None
            ids = self._torch.tensor([self._unread[at : at + _PREFILL]], device=self._device)
            out = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._unread = []
        return out.logits[0, -1].float()


class Sampler:
    """Draws tokens; seeded, greedy at temperature 0."""

    def __init__(self, torch: Any, order: Mapping[str, Any], choice: int, device: str) -> None:
        self._torch = torch
        self._order = order
        self._device = device
        self._chance = torch.Generator(device=device)
        seed = order["seed"]
        self._chance.manual_seed(int.from_bytes(os.urandom(7)) if seed is None else (seed + choice) % 2**63)
        self.drawn: list[int] = []

    def penalise(self, logits: Any) -> None:
        frequency, presence = self._order["frequency_penalty"], self._order["presence_penalty"]
        if not self.drawn or not (frequency or presence):
            return
        ids = self._torch.tensor(self.drawn, device=self._device)
        counts = self._torch.bincount(ids, minlength=logits.shape[0]).to(logits)
        logits -= frequency * counts + presence * (counts > 0)

    def draw(self, logits: Any) -> int:
        temperature = self._order["temperature"]
        token = int(logits.argmax()) if temperature == 0 else self._chosen(logits / temperature)
        self.drawn.append(token)
        return token

    def _chosen(self, logits: Any) -> int:
        torch, top_k, top_p = self._torch, self._order["top_k"], self._order["top_p"]
        values, ids = logits.sort(descending=True)
        if top_k:
            values[top_k:] = -torch.inf
        shares = torch.softmax(values, -1)
        if top_p < 1:
            shares[shares.cumsum(-1) - shares >= top_p] = 0  # the likeliest one always stays
        return int(ids[torch.multinomial(shares, 1, generator=self._chance)])


def _ends(tokenizer: Any, model: Any) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's, and those of generation_config.json."""
    told = getattr(model.generation_config, "eos_token_id", None)
    found = [tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])]
    return frozenset(token for token in found if token is not None)


def _cut(said: bytes, stops: Sequence[bytes], new: int) -> int | None:
    """Where the first stop string begins, when the last `new` bytes have completed one."""
    places = (said.find(stop, max(0, len(said) - new - len(stop) + 1)) for stop in stops)
    return min((place for place in places if place >= 0), default=None)


def loaded(told: str) -> Engine:
    """told: JSON of Engine's arguments."""
    given = json.loads(told)
    return Engine(Path(given.pop("model")), **given)
