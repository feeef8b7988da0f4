"""What an answer becomes on its way to the caller: rendered, without the log-probabilities that only Weir wanted."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.calls import imposed
from gateway.decide import Rung
from gateway.story import AttemptStory, Story
from wire.types import Chunk

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def shown(story: Story, chunk: Chunk) -> Chunk:
    """`chunk` with the log-probabilities that the caller asked for. Weir asks for some on its own, and for more alternatives."""
    if chunk.logprobs is None:
        return chunk
    if not story.asked.wants.logprobs:
        return replace(chunk, logprobs=None)
    wanted = story.asked.body.get("top_logprobs")
    most = wanted if type(wanted) is int else 0
    told = chunk.logprobs.get("content")
    if not isinstance(told, list) or all(len(entry.get("top_logprobs") or ()) <= most for entry in told):
        return chunk
    return replace(chunk, logprobs={**chunk.logprobs, "content": [_likeliest(entry, most) for entry in told]})


def _likeliest(entry: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    others = sorted(entry.get("top_logprobs") or (), key=lambda other: -(other.get("logprob") or 0.0))
    return {**entry, "top_logprobs": others[:most]}


def template_for(story: Story, rung: Rung) -> str | None:
    """What an answer of `rung` is to be `render`ed with: the route's template, where it answers to the route's constraint."""
    route = story.route
    if route is None or route.render is None or story.asked.constraint is not None or imposed(story, rung) is None:
        return None
    return route.render


def rendered(story: Story, attempt: AttemptStory, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """`chunks`, or what the caller reads in their place (`template_for`)."""
    template = template_for(story, attempt.rung)
    if template is None:
        return chunks
    drafts = attempt.gate.fold.drafts()
    if any(draft.tool_calls or draft.refusal for draft in drafts):
        return chunks  # no answer to the constraint: there is nothing to render
    out: list[Chunk] = []
    for draft in drafts:
        text = render(template, draft.text) if draft.text else draft.text
        out.append(Chunk(choice=draft.choice, delta={"role": "assistant", "content": text}, finish=draft.finish))
    usage = attempt.gate.fold.usage
    return [*out, Chunk(usage=usage)] if usage is not None else out


def render(template: str, text: str) -> str:
    """`template` with each `{name}` or `{a/b}` replaced by that value of the JSON document `text`; strings without quotes. `{}` is not a
    placeholder. Text that is no JSON object is given back as it is."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if not isinstance(document, dict):
        return text

    def value(found: re.Match[str]) -> str:
        here: Any = document
        for key in found[1].strip("/").split("/"):
            if not isinstance(here, dict) or key not in here:
                return ""
            here = here[key]
        return here if isinstance(here, str) else orjson.dumps(here).decode()

    return _PLACEHOLDER.sub(value, template)
