"""Asked > Call, and what is asked of its answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.canonical import canonical
from gateway.decide import Rung, ToolRule
from gateway.growing import Growing
from gateway.plan import BESIDE, OPINIONS, Plan, can_climb
from gateway.story import AttemptStory, Story
from gateway.validators.base import Ask, Tool, Validator
from wire.types import Call, Constraint, Draft

FORWARDED: tuple[str, ...] = ("traceparent", "tracestate", "openai-beta")
"""Request headers that go on with a request that Weir changed; an unchanged request keeps all but credentials and ours."""
SPOKEN: Mapping[str, tuple[str, ...]] = {"messages": ("anthropic-version", "anthropic-beta")}
"""And more of them, to a rung that speaks the caller's own API."""
_KEPT = {dialect: FORWARDED + names for dialect, names in SPOKEN.items()}
THINKING = "thinking_blocks"
MARGIN = 1.5
"""Tokens of a prompt may be so many times the estimate (code, other languages than English, the chat template)."""
WRITES = "x-weir-writes"
"""Our own mark on a tool that changes something; it never goes upstream."""
MEND = "Your last answer was rejected: {detail}. Answer again, and only with what was asked for."
"""Names the broken rule; a verdict's detail holds no value out of the answer."""


def constraint_for(story: Story, rung: Rung) -> Constraint | None:
    """The caller's own; else what is `imposed`."""
    return story.asked.constraint or imposed(story, rung)


def imposed(story: Story, rung: Rung) -> Constraint | None:
    """The route's constraint. For small rungs only: a large one reads the prompt as it was written."""
    route = story.route
    if route is None or route.constraint is None or story.straight or not route.small(rung):
        return None
    return route.constraint


def fitted(story: Story) -> Plan:
    """The plan, with what only the request shows: tools that it marks as writing, and how many choices it wants. Several choices are one
    answer to nobody: there is no vote over them, and no second try."""
    plan, asked = story.plan, story.asked
    if story.straight or story.route is None:
        return plan
    if asked.wants.n > 1 and (plan.repair or plan.samples):
        plan = replace(plan, repair=0, samples=0)
    offered = asked.body.get("tools") or ()
    native = asked.native.get("tools") if asked.native else None  # a translation may have lost the mark
    if not offered and not native:
        return plan
    tools = [*offered, *(native if isinstance(native, list) else ())]
    marked = [name for name in map(_writing, tools) if name and name not in plan.tools]
    return replace(plan, tools={**plan.tools, **dict.fromkeys(marked, "never")}) if marked else plan


def _writing(tool: Any) -> str:
    """The name of a tool that says of itself that it changes something, by our mark or by MCP's annotations (schema 2025-06-18,
    ToolAnnotations); "" of any other."""
    if not isinstance(tool, Mapping):
        return ""
    parts = [tool[key] for key in ("function", "custom") if isinstance(tool.get(key), Mapping)]
    inner: Mapping[str, Any] = parts[0] if parts else {}
    for part in (tool, inner):
        told = part.get("annotations")
        told = told if isinstance(told, Mapping) else {}
        if part.get(WRITES) is True or told.get("readOnlyHint") is False or told.get("destructiveHint") is True:
            return str(inner.get("name") or tool.get("name") or "")
    return ""


def learnt(story: Story, attempt: AttemptStory) -> None:
    """What a plan that `compares` wants to know of an answer that has ended: which tools it calls, what it says."""
    plan, fold = story.plan, attempt.gate.fold
    if fold.called:
        attempt.calls = tuple(dict.fromkeys(call.name for draft in fold.drafts() for call in draft.tool_calls))
    if plan.companion is None and not plan.samples:
        return
    attempt.answer = canonical_of(story, attempt.rung, fold.drafts())


def canonical_of(story: Story, rung: Rung, drafts: Sequence[Draft]) -> str:
    """What `rung` said, all choices together: equal strings mean equal answers."""
    wanted = constraint_for(story, rung)
    schema = wanted.value if wanted is not None and wanted.kind == "schema" and isinstance(wanted.value, dict) else None
    tools = {name: tool.parameters for name, tool in _tools(story.asked.body.get("tools") or ()).items()}
    return "\0".join(canonical(d.text, d.tool_calls, schema=schema, tools=tools) for d in drafts)


def growing(story: Story, attempt: AttemptStory) -> Growing | None:
    """What looks at this attempt's answer while it grows; None where the plan has no use for that. A rung whose answer is looked at is
    asked live."""
    route, rung, plan = story.route, attempt.rung, story.plan
    if route is None or story.straight or attempt.purpose in OPINIONS or not route.small(rung):
        return None
    higher = can_climb(plan, story.snapshots(), attempt.index)
    starts = higher and story.asked.wants.n == 1 and route.waste is not None and rung.start is not None
    collapsed = rung.collapsed if higher and story.asked.wants.n == 1 else None
    window = route.window if _may_flow(story, attempt) else None
    if not starts and collapsed is None and window is None and not (higher and route.window is not None):
        return None
    return Growing(
        ask_of(story, rung),
        validators_for(story, rung),
        outlook=rung.outlook if starts else None,
        text=story.asked.query.text,
        start=rung.start if rung.start is not None else 1.0,
        collapsed=collapsed,
        window=window,
        weighed=plan.agreement == "weighed",
    )


def _may_flow(story: Story, attempt: AttemptStory) -> bool:
    """Free text, wanted piece by piece, of a rung that has not promised how sure it is."""
    asked, route = story.asked, story.route
    choice = asked.body.get("tool_choice")
    forced = bool(asked.body.get("tools")) and choice not in (None, "auto", "none")
    return (
        route is not None
        and route.window is not None
        and route.risk is None
        and asked.wants.stream
        and asked.wants.n == 1
        and not forced
        and story.plan.agreement not in BESIDE
        and constraint_for(story, attempt.rung) is None
    )


def may_hold(story: Story, attempt: AttemptStory) -> bool:
    """Is this attempt's answer held until it was checked? Then nobody wants it piece by piece."""
    if story.straight:
        return False
    return attempt.index < len(story.plan.rungs) - 1 or story.plan.strict or story.plan.top_proves


def validators_for(story: Story, rung: Rung, *, soft: bool = True) -> Sequence[Validator]:
    """All of the route's checks for a small rung, the hard ones for the top. soft=False: the hard ones, for an answer that need not be
    sure of itself."""
    route = story.route
    if route is None or story.straight:
        return ()
    return route.validators if soft and rung.name != route.large else route.hard


def call_for(
    story: Story, rung: Rung, seconds: float, *, live: bool = False, attempt: AttemptStory | None = None
) -> Call:
    """live: somebody wants the answer as it comes. attempt: for which the call is made, when that is no plain one. Made by position, as
    `Story.record` is."""
    asked, query = story.asked, story.asked.query
    spoken = getattr(story.setup.backends[rung.name], "dialect", "chat")
    body = _within(story, rung) if asked.dialect == "messages" else asked.body
    if tools := body.get("tools"):
        body = _unmarked(body, tools)
    if spoken != "messages":  # reasoning of one model is never replayed into another
        for message in body.get("messages") or ():
            if THINKING in message:
                body = _thoughtless(body)
                break
    if story.verbatim:
        headers = {name: value for name, value in query.headers.items() if not name.startswith("x-weir-")}
    else:
        given = query.headers
        headers = {}
        for name in _KEPT.get(spoken, FORWARDED) if spoken == asked.dialect else FORWARDED:
            if name in given:
                headers[name] = given[name]
    upward = headers if story.trace is None else story.trace.upward(headers, len(story.attempts) - 1)
    return Call(
        body if attempt is None else _bent(story, attempt, body),
        seconds,
        constraint_for(story, rung),
        live,
        asked.wants.logprobs or (rung.scorer is not None and not story.straight),
        query.text,
        query.model,
        asked.raw if story.verbatim else b"",
        asked.dialect,
        asked.native,
        story.credential() if rung.passthrough else "",
        story.id,
        upward,
        query.session,
        query.signature,
    )


def _bent(story: Story, attempt: AttemptStory, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of an attempt that is not the rung's first: told what was wrong, or asked for another sample."""
    before = [other for other in story.attempts if other.index == attempt.index and other is not attempt]
    if attempt.purpose == "repair":
        return _told_off(body, next(other for other in reversed(before) if other.purpose != "sample"))
    if attempt.purpose == "sample" and story.route is not None:
        seed = body.get("seed")
        number = 1 + sum(other.purpose == "sample" for other in before)
        first = seed if type(seed) is int else 0
        return {**body, "temperature": story.route.temperature, "seed": first + number}
    return body


def _told_off(body: Mapping[str, Any], bad: AttemptStory) -> Mapping[str, Any]:
    """Calls are quoted as text: chat templates parse the arguments of calls in a conversation, and these may be no JSON."""
    drafts = bad.gate.fold.drafts()
    said = drafts[0].text if drafts else ""
    calls = drafts[0].tool_calls if drafts else ()
    quoted = [said, *(orjson.dumps({"name": call.name, "arguments": call.arguments}).decode() for call in calls)]
    answer = "\n".join(part for part in quoted if part)
    detail = bad.verdict.detail if bad.verdict is not None else ""
    told = [{"role": "assistant", "content": answer}, {"role": "user", "content": MEND.format(detail=detail)}]
    return {**body, "messages": [*(body.get("messages") or ()), *told]}


def _thoughtless(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Thinking, signed by Anthropic's models, which chat clients send back, goes to rungs of theirs only."""
    kept = [{key: value for key, value in message.items() if key != THINKING} for message in body["messages"]]
    return {**body, "messages": kept}


def _unmarked(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if not any(WRITES in tool or WRITES in (tool.get("function") or ()) for tool in tools):
        return body
    return {**body, "tools": [_without_mark(tool) for tool in tools]}


def _without_mark(tool: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in tool.items() if key != WRITES}
    if isinstance(inner := tool.get("function"), Mapping):
        told["function"] = {key: value for key, value in inner.items() if key != WRITES}
    return told


def _within(story: Story, rung: Rung) -> Mapping[str, Any]:
    """Anthropic's clients must name a limit of output tokens, and name large ones; vLLM refuses a limit that does not fit behind the
    prompt. So theirs, and only theirs, is lowered to what a rung with a known `context_length` has room for."""
    body = story.asked.body
    context = story.setup.settings.backends[rung.name].context_length
    wanted = body.get("max_completion_tokens")
    if context is None or not isinstance(wanted, int):
        return body
    room = context - int(story.prompt.input * MARGIN)
    return {**body, "max_completion_tokens": room} if 0 < room < wanted else body


def ask_of(story: Story, rung: Rung) -> Ask:
    """What this rung's answer is judged against. The threshold is the route's for this rung: none for the top, whose answers
    are not held for being unsure."""
    asked, route = story.asked, story.route
    body = asked.body
    offered = body.get("tools")
    return Ask(
        constraint_for(story, rung),
        _tools(offered) if offered else {},
        body.get("tool_choice"),
        body.get("parallel_tool_calls") is False,
        rung.threshold,
        rung.calibrated,
        rung.scorer,
        body.get("messages") or (),
        _stricter(route.tools) if route is not None and route.tools else {},
    )


def _stricter(rules: Mapping[str, ToolRule]) -> dict[str, float]:
    """Tool > threshold, for tools whose calls the route wants to be surer of than of the rest."""
    return {name: rule.threshold for name, rule in rules.items() if rule.threshold is not None}


def _tools(offered: Sequence[Mapping[str, Any]]) -> dict[str, Tool]:
    tools: dict[str, Tool] = {}
    for tool in offered:
        function = tool.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            tools[function["name"]] = Tool(function.get("parameters"), bool(function.get("strict")))
    return tools
