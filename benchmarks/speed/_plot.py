"""Latency against load, as SVG."""

import io
from collections.abc import Mapping, Sequence


def load(loads: Sequence[int], curve: Mapping[str, Sequence[float]], capacity: float) -> bytes:
    """loads: percent of `capacity` (req/s). curve: percentile > added ms for each."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "weir"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, values in curve.items():
        axes.plot(loads, values, marker="o", label=name)
    axes.set(
        xlabel=f"load, % of capacity ({capacity:,.0f} req/s on one core)",
        ylabel="added latency, ms",
        xticks=list(loads),
        ylim=(0, None),
        title="Added latency against load, all features on",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return drawn.getvalue()
