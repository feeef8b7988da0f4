"""What a Record tells of escalations, and of the large model."""

from gateway.record import Record


def escalations(record: Record) -> list[tuple[str, str, str]]:
    """(from, to, reason) of every spill of one request: a small rung was rejected or failed, and a higher one was asked.

    The higher one is the first other rung that was asked after the failure, or the top rung whenever it was asked (it may have
    been started ahead). Tries of the same rung spill once, for the last try's reason. Second opinions are no rungs, and an early start that
    was thrown away is no spill.
    """
    if len(record.attempts) < 2:
        return []
    spills: dict[tuple[str, str], str] = {}
    unneeded = ("agree", "sample", "early") if record.speculation == "wasted" else ("agree", "sample")
    asked = [attempt for attempt in record.attempts if attempt.purpose not in unneeded]
    for at, low in enumerate(asked):
        if low.outcome not in ("rejected", "error") or low.rung == record.top:
            continue
        end = low.start + low.seconds - 0.001  # clocks are read one after the other
        for high in asked[at + 1 :]:
            if high.rung != low.rung and (high.rung == record.top or high.start >= end):
                spills[low.rung, high.rung] = low.reason
                break
    return [(low_rung, high_rung, reason) for (low_rung, high_rung), reason in spills.items()]


def had_to(record: Record) -> bool:
    """Did the top rung have to answer a request that was routed? So it did when the request was direct, escalated, or went straight there;
    not when it was started early and thrown away, and not where it is the only rung and proved its answer like a small one."""
    if not record.route or not record.top or record.outcome in ("accepted", "degraded"):
        return False
    for attempt in record.attempts:  # noqa: SIM110  # twice a Record, and a generator takes 0.5 us longer
        if attempt.rung == record.top:
            return True
    return False
