"""The text of the page: a line is a start that is kept and a number."""

import math


def start(name: str, labels: dict[str, str]) -> str:
    """A line of the page up to its number; "" for what only OpenMetrics has, and which is a third of the page."""
    if name.endswith("_created"):
        return ""
    if not labels:
        return f"{name} "
    inside = ",".join(f'{key}="{escape(value, quotes=True)}"' for key, value in labels.items())
    return f"{name}{{{inside}}} "


def escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
