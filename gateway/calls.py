"""Asked > Call, and what is done to an answer on its way out."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.decide import Route, Rung
from gateway.story import AttemptStory, Story
from gateway.validators.base import Ask, Tool, Validator
from wire.types import Call, Chunk, Constraint

FORWARDED = ("traceparent", "tracestate", "openai-beta")
"""Request headers that go on with a request that Weir changed; an unchanged request keeps all but credentials and ours."""
SPOKEN = {"messages": ("anthropic-version", "anthropic-beta")}
"""And these, to a rung that speaks the caller's own API."""
THINKING = "thinking_blocks"
MARGIN = 1.5
"""Tokens of a prompt may be so many times the estimate (code, other languages than English, the chat template)."""
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def constraint_for(story: Story, rung: Rung) -> Constraint | None:
    """The caller's own constraint; else the route's, which is for small rungs only: a large one reads the prompt as it was written."""
    if story.asked.constraint is not None or story.route is None or story.straight:
        return story.asked.constraint
    return story.route.constraint if story.route.small(rung) else None


def may_hold(story: Story, attempt: AttemptStory) -> bool:
    """Is this attempt's answer held until it was checked? Then nobody wants it piece by piece."""
    if story.straight:
        return False
    return attempt.index < len(story.plan.rungs) - 1 or story.plan.strict or story.plan.top_proves


def validators_for(story: Story, rung: Rung) -> Sequence[Validator]:
    """All of the route's checks for a small rung, the hard ones for the top."""
    if story.route is None or story.straight:
        return ()
    if story.route.small(rung):
        return story.route.validators
    return [validator for validator in story.route.validators if not getattr(validator, "soft", False)]


def call_for(story: Story, rung: Rung, seconds: float, *, held: bool) -> Call:
    asked, query = story.asked, story.asked.query
    headers = query.headers
    if not story.verbatim:
        spoken = getattr(story.setup.backends[rung.name], "dialect", "chat")
        kept = (*FORWARDED, *SPOKEN.get(spoken if spoken == asked.dialect else "", ()))
        headers = {name: headers[name] for name in kept if name in headers}
    return Call(
        body=body_for(story, rung),
        seconds=seconds,
        constraint=constraint_for(story, rung),
        live=asked.wants.stream and not held,
        logprobs=asked.wants.logprobs,
        text=query.text,
        model=query.model,
        raw=asked.raw if story.verbatim else b"",
        dialect=asked.dialect,
        native=asked.native,
        credential=story.credential if rung.passthrough else "",
        request_id=story.id,
        headers={name: value for name, value in headers.items() if not name.startswith("x-weir-")},
    )


def body_for(story: Story, rung: Rung) -> Mapping[str, Any]:
    """The canonical body. Reasoning of one model is never replayed into another: thinking, signed by Anthropic's models, which chat
    clients send back, goes to rungs of theirs only."""
    body = _within(story, rung)
    messages = body.get("messages") or ()
    if getattr(story.setup.backends[rung.name], "dialect", "chat") == "messages":
        return body
    if not any(THINKING in message for message in messages):
        return body
    kept = [{key: value for key, value in message.items() if key != THINKING} for message in messages]
    return {**body, "messages": kept}


def _within(story: Story, rung: Rung) -> Mapping[str, Any]:
    """Anthropic's clients must name a limit of output tokens, and name large ones; vLLM refuses a limit that does not fit behind the
    prompt. So theirs, and only theirs, is lowered to what a rung with a known `context_length` has room for."""
    body = story.asked.body
    context = story.setup.settings.backends[rung.name].context_length
    wanted = body.get("max_completion_tokens")
    if story.asked.dialect != "messages" or context is None or not isinstance(wanted, int):
        return body
    room = context - int(story.prompt.input * MARGIN)
    return {**body, "max_completion_tokens": room} if 0 < room < wanted else body


def ask_of(story: Story, rung: Rung) -> Ask:
    """What this rung's answer is judged against. The threshold is the route's for this rung: none for the top, whose answers
    are not held for being unsure."""
    body = story.asked.body
    return Ask(
        constraint=constraint_for(story, rung),
        tools=_tools(body),
        tool_choice=body.get("tool_choice"),
        one_call=body.get("parallel_tool_calls") is False,
        threshold=rung.threshold,
        calibrated=rung.calibrated,
        scorer=rung.scorer,
        messages=body.get("messages") or (),
        rules=_stricter(story.route),
    )


def _stricter(route: Route | None) -> dict[str, float]:
    """Tool > threshold, for tools whose calls the route wants to be surer of than of the rest."""
    rules = route.tools if route is not None else {}
    return {name: rule.threshold for name, rule in rules.items() if rule.threshold is not None}


def _tools(body: Mapping[str, Any]) -> dict[str, Tool]:
    tools: dict[str, Tool] = {}
    for tool in body.get("tools") or ():
        function = tool.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            tools[function["name"]] = Tool(function.get("parameters"), bool(function.get("strict")))
    return tools


def rendered(story: Story, attempt: AttemptStory, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """`chunks`, or the route's `render` of them where the route imposed the constraint that they answer to."""
    route = story.route
    if route is None or route.render is None or story.asked.constraint or not constraint_for(story, attempt.rung):
        return chunks
    drafts = attempt.gate.fold.drafts()
    if any(draft.tool_calls or draft.refusal for draft in drafts):
        return chunks  # no answer to the constraint: there is nothing to render
    out: list[Chunk] = []
    for draft in drafts:
        text = render(route.render, draft.text) if draft.text else draft.text
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
