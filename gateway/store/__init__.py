"""Where responses are kept for `previous_response_id`: in memory, or in Redis when there is more than one process.

A store holds bytes under (tenant, id) for a time; what they mean is the surface's affair (`gateway.surface.responses`). `Guarded` stands
before every store: it bounds how long a call may take and counts how it ended.
"""

from collections.abc import Callable

from gateway.settings.model import ResponsesSettings
from gateway.store.base import Store, StoreError
from gateway.store.guard import Count, Guarded
from gateway.store.memory import Memory

__all__ = ["Guarded", "Memory", "Store", "StoreError", "make"]


def make(settings: ResponsesSettings, clock: Callable[[], float], count: Count) -> Guarded | None:
    """The store that `settings` name; None for `off`. Connects to nothing yet. clock: monotonic seconds."""
    store: Store
    if settings.store == "off":
        return None
    if settings.store == "memory":
        store = Memory(settings.max_count, settings.max_bytes, clock)
    else:
        from gateway.store.redis import Redis

        store = Redis(settings)
    return Guarded(store, settings.timeout, clock, count)
