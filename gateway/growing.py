"""What can be said of a small rung's answer while it still grows: that it cannot become right, looks unsure, or may flow. Pure.

Fed every chunk of one attempt, in order, and only where the plan asks for it: a request that has nothing to gain pays nothing.
"""

from collections.abc import Mapping, Sequence

from gateway.confidence.features import second_odds
from gateway.confidence.outlook import Outlook, spoken
from gateway.confidence.parting import Parting, said
from gateway.confidence.watch import Watch
from gateway.fold import CallNumbers
from gateway.validators.base import Ask, Validator, Verdict
from gateway.validators.fits_schema import FitsSchema
from gateway.validators.prefix import Prefix
from gateway.validators.tool_arguments import ToolArguments
from wire.types import Chunk, Draft, Json

COLLAPSED = "collapsed"
"""Names this look in a verdict, as a validator's kind would."""


class Growing:
    """One attempt's answer as it comes.

    validators: the route's; only what they would judge in the end is judged here. outlook: makes `doubt`, before the first chunk by the
    words of `text` (what the user asked last); None: nobody doubts. start: the doubt that is worth telling. collapsed: a log-probability
    (nats), as in `Rung`. window: characters of free text after which it may flow; None: it may not. weighed: a second model is asked
    beside this one, and `hear` will tell what it said.
    """

    def __init__(
        self,
        ask: Ask,
        validators: Sequence[Validator],
        *,
        outlook: Outlook | None = None,
        text: str = "",
        start: float = 1.0,
        collapsed: float | None = None,
        window: int | None = None,
        weighed: bool = False,
    ) -> None:
        self.doubt = 0.0
        """The largest so far: probability that the answer will not be accepted. 0 without an outlook."""
        self.chars = 0
        """Of text, so far."""
        self.called = False
        """A call or a refusal has begun: what comes is no free text any more."""
        self._window = window
        self._outlook, self._start, self._collapsed = outlook, start, collapsed
        self._watch = Watch() if outlook is not None or collapsed is not None else None
        self._before = outlook.before(text) if outlook is not None else 0.0
        self._waiting: list[Chunk] | None = [] if weighed and outlook is not None and outlook.beside else None
        """What came before the second was heard."""
        self._parting: Parting | None = None
        self._second = 0.0
        self._doubts(None)
        self._tools = ask.tools if any(isinstance(check, ToolArguments) for check in validators) else None
        self._calls: dict[int, tuple[CallNumbers, dict[int, Prefix]]] = {}
        self._texts: dict[int, Prefix] = {}
        wanted = ask.constraint
        may_call = bool(ask.tools) and ask.tool_choice != "none"  # then text may turn out to stand beside a call
        fits = not may_call and any(isinstance(check, FitsSchema) for check in validators)
        self._schema: Json | None = wanted.value if wanted is not None and wanted.kind == "schema" else None
        self._json = fits and wanted is not None and wanted.kind in ("schema", "json")

    @property
    def listens(self) -> bool:
        """It waits for what the second model says."""
        return self._waiting is not None

    def hear(self, second: Draft | None, probability: float | None) -> None:
        """What the second model said, and how sure it is of that. None: nothing that this answer could be weighed with."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if second is None:
            self.doubt = 1.0
            return
        assert self._outlook is not None
        assert self._outlook.beside is not None
        beside, told = self._outlook.beside, said(second)
        self._second = second_odds(probability)
        self._before = beside.before(self._before, self._second, spoken(told))
        self._parting = Parting(told)
        for chunk in waiting:
            self._parting.feed(chunk)
        self._doubts(self._watch.lowest if self._watch is not None else None)

    @property
    def unsure(self) -> bool:
        """So doubtful that the next rung may be started."""
        return self._outlook is not None and self.doubt >= self._start

    @property
    def full(self) -> bool:
        """The window is full of text and of nothing else."""
        return self._window is not None and not self.called and self.chars >= max(self._window, 1)

    def feed(self, chunk: Chunk) -> Verdict | None:
        """FAIL when no continuation can make the answer right; None while that is open."""
        failed = self._text(chunk) or self._call(chunk)
        if self._watch is None:
            return failed
        self._watch.feed(chunk)
        if self._parting is not None:
            self._parting.feed(chunk)
        elif self._waiting is not None:
            self._waiting.append(chunk)
        lowest = self._watch.lowest
        if lowest is None or failed is not None:
            return failed
        if self._collapsed is not None and lowest < self._collapsed:
            told = f"a token had the log-probability {lowest:.2f}, below {self._collapsed:.2f}"
            return Verdict("fail", "low_confidence", COLLAPSED, told)
        self._doubts(lowest)
        return None

    def _doubts(self, lowest: float | None) -> None:
        outlook = self._outlook
        if (
            outlook is None or self.listens
        ):  # what the second says outweighs all that can be known before: it comes in milliseconds
            return
        if outlook.beside is None or self._parting is None:
            doubt = outlook.doubt(self._before, lowest)
        else:
            doubt = outlook.beside.doubt(self._before, lowest, self._second, self._parting.parted)
        self.doubt = max(self.doubt, doubt)

    def _text(self, chunk: Chunk) -> Verdict | None:
        text = chunk.delta.get("content")
        self.called = self.called or bool(chunk.delta.get("tool_calls") or chunk.delta.get("refusal"))
        if not isinstance(text, str) or not text:
            return None
        self.chars += len(text)
        if not self._json or self.called:
            return None
        prefix = self._texts.get(chunk.choice)
        if prefix is None:
            prefix = self._texts[chunk.choice] = Prefix(self._schema)
        broken = prefix.feed(text)
        return Verdict("fail", "schema", "fits_schema", broken) if broken else None

    def _call(self, chunk: Chunk) -> Verdict | None:
        deltas = chunk.delta.get("tool_calls")
        if self._tools is None or not isinstance(deltas, list):
            return None
        numbers, prefixes = self._calls.setdefault(chunk.choice, (CallNumbers(), {}))
        for position, delta in enumerate(deltas):
            function = delta.get("function") if isinstance(delta, Mapping) else None
            if not isinstance(function, Mapping):
                continue
            at = numbers(delta, position)
            if at not in prefixes:
                name = function.get("name")
                if not name:
                    continue
                tool = self._tools.get(str(name))
                if tool is None:
                    return _misfit(at, "names a tool that was not offered")
                prefixes[at] = Prefix(tool.parameters)
            arguments = function.get("arguments")
            broken = prefixes[at].feed(arguments) if isinstance(arguments, str) and arguments else ""
            if broken:
                return _misfit(at, f"arguments: {broken}")
        return None


def _misfit(at: int, broken: str) -> Verdict:
    return Verdict("fail", "tool_arguments", "tool_arguments", f"call {at}: {broken}")
