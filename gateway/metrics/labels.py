"""What may stand in a label: closed lists, and buckets of histograms."""

from typing import get_args

from gateway.record import Outcome
from wire.errors import Reason

OTHER = "other"
NONE = "none"
MODES = ("observe", "shadow", "canary", "enforce", "bypass")
OUTCOMES: tuple[str, ...] = get_args(Outcome)
REASONS: tuple[str, ...] = get_args(Reason)
ATTEMPT_OUTCOMES = ("delivered", "rejected", "error", "stopped")
ERROR_CODES = (
    "error", "invalid_json", "invalid_json_schema", "invalid_api_key", "permission_denied", "rate_limit_exceeded", "not_found",
    "model_not_found", "method_not_allowed", "request_too_large", "context_length_exceeded", "unsupported_parameter", "overloaded",
    "no_valid_answer", "escalation_unavailable", "deadline_exceeded", "upstream_error", "upstream_timeout", "upstream_overloaded",
    "previous_response_not_found", "response_store_unavailable",
)  # fmt: skip
ALL = "all"
"""The route label of `weir_bypass` when every route is bypassed."""
SHADOW_RESULTS = ("agree", "disagree", "invalid", "error", "dropped")
JUDGED_RESULTS = ("right", "wrong", "invalid", "error", "dropped")
SPECULATIONS = ("used", "wasted")
TOKENS = ("input", "cached_input", "output")
STORE_OPS = ("get", "put", "delete")
STORE_RESULTS = ("ok", "missing", "error", "skipped", "too_large")
STAGES = ("accept", "parse", "router", "upstream", "check", "write", "rest", "total", "overhead")
SECONDS = (
    .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120,
)  # fmt: skip
CONFIDENCE = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.995, 0.999, 1)
PIECES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds between two pieces of an answer."""
SLOS = ("escalation_rate", "failures")
LOADS = ("running", "waiting")
QUEUES = ("off_path",)
