"""Which replica gets a request: the rules, for any loads."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backends._vllm_choice import CLOSED, FAILURES, LONGEST_REST, Circuit, Load, order, rendezvous

LOADS = st.lists(
    st.builds(
        Load,
        usable=st.booleans(),
        waiting=st.integers(0, 50).map(float),
        running=st.integers(0, 50).map(float),
        kv=st.floats(0, 1),
        own=st.integers(0, 50),
        own_then=st.integers(0, 50),
    ),
    min_size=1,
    max_size=8,
)
KEYS = st.text(max_size=8)


@given(LOADS, KEYS, st.integers(0, 7))
def test_order(loads: list[Load], key: str, last: int) -> None:
    """Each usable replica once, and none that is not; all of them when none is."""
    ring = rendezvous([str(at) for at in range(len(loads))], key)
    found = order(loads, last=last if last < len(loads) else None, ring=ring)
    usable = [at for at, load in enumerate(loads) if load.usable] or list(range(len(loads)))
    assert sorted(found) == usable


@given(LOADS, KEYS)
def test_nobody_drowns(loads: list[Load], key: str) -> None:
    """Affinity never sends a request to a replica with more than its share while another has room."""
    loads = [replace(load, usable=True, kv=0.0) for load in loads]
    ring = rendezvous([str(at) for at in range(len(loads))], key)
    for last in (None, ring[0]):
        first = loads[order(loads, last=last, ring=ring)[0]]
        mean = (sum(load.busy for load in loads) + 1) / len(loads)
        # A queue weighs more than what runs: the least loaded one may be busier than the mean, but then it has the shortest queue.
        assert first.busy <= 1.25 * mean + 1 or first.waiting == min(load.waiting for load in loads)


def test_least_loaded() -> None:
    """Without affinity: the shortest queue, then the fewest requests, then the emptiest cache."""
    queue, busy, full, idle = Load(waiting=2), Load(running=3), Load(kv=0.5), Load()
    assert order([queue, busy, full, idle]) == [3, 2, 1, 0]


def test_own_requests_count_once() -> None:
    """What was under way at the last look is in its figures already; what was sent since is not."""
    assert Load(running=5, own=5, own_then=5).busy == 5
    assert Load(running=5, own=8, own_then=5).busy == 8
    assert Load(running=0, own=2, own_then=2).busy == 2, "never fewer than we have there ourselves"


def test_conversations_return() -> None:
    """A conversation goes back to its replica, also when that one is a little busier; not when it is much busier, or queues."""
    assert order([Load(), Load(running=1)], last=1)[0] == 1
    assert order([Load(running=4), Load(running=4)], last=1)[0] == 1
    assert order([Load(), Load(running=6)], last=1)[0] == 0
    assert order([Load(running=3), Load(running=3, waiting=1)], last=1)[0] == 0
    assert order([Load(), Load(usable=False)], last=1) == [0]


def test_a_full_cache_is_left() -> None:
    """Where the cache is full a new request pushes another out: affinity ends there."""
    assert order([Load(), Load(kv=0.97)], last=1)[0] == 0


@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=6, unique=True), KEYS)
def test_rendezvous(names: list[str], key: str) -> None:
    """The order depends on the key alone, and taking one name away moves nothing else."""
    before = [names[at] for at in rendezvous(names, key)]
    rest = [name for name in names if name != before[0]]
    assert [rest[at] for at in rendezvous(rest, key)] == before[1:]


def test_kinds_spread() -> None:
    """Different kinds of requests get different favourites."""
    names = ["a", "b", "c"]
    firsts = [rendezvous(names, key)[0] for key in range(300)]
    assert all(60 < firsts.count(at) < 140 for at in range(3))


def test_circuit() -> None:
    """Opens at the third failure in a row, lets one trial through after its rest, rests longer after each, closes with an answer."""
    circuit = CLOSED
    for _ in range(FAILURES - 1):
        circuit = circuit.asked(0).failed(0)
        assert circuit.admits(0)
    circuit = circuit.failed(0)
    assert not circuit.admits(0.99)
    assert circuit.admits(1)
    trial = circuit.asked(1)
    assert not trial.admits(1.5), "one trial at a time"
    again = trial.failed(1.5)
    assert not again.admits(3.4)
    assert again.admits(3.5)
    assert trial.answered() is CLOSED


@given(st.integers(0, 10_000), st.floats(0, 1e6))
def test_rest_is_bounded(failures: int, now: float) -> None:
    """However long it has been down, it is tried again within half a minute."""
    circuit = Circuit(failures=failures).failed(now)
    assert circuit.admits(now + LONGEST_REST + 1e-3)


def test_full_is_no_failure() -> None:
    """A replica that refuses for load is left for as long as it says, half a minute at most, and its failures are forgotten: it answers."""
    assert not CLOSED.full(0, 5).admits(4)
    assert CLOSED.full(0, 5).admits(5)
    assert CLOSED.full(0, 3600).admits(LONGEST_REST)
    assert CLOSED.full(0, None).admits(1)
    assert Circuit(failures=2).full(0, None).failures == 0
