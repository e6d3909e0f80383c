"""A comparison of two networks as a sentence."""

from __future__ import annotations

from snn_delays.benchmark.statistics import MIN_SEEDS, Comparison


def verdict(first: str, second: str, compared: Comparison) -> str:
    """What the first network adds to the accuracy of the second, with its interval.

    Args:
        first: label of a network, in the plural.
        second: label of another network.
        compared: their accuracies in percent, paired by seed.
    """
    d = compared.difference
    if d.n < MIN_SEEDS:
        return (
            f"Nothing can be said yet of {first} against {second}: {d.mean:+.1f} points in"
            f" {d.n} seed{'s' * (d.n > 1)}, where an interval needs {MIN_SEEDS}."
        )
    if d.low <= 0 <= d.high:
        return (
            f"No difference could be shown between {first} and {second}"
            f" ({d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}] points; n = {d.n})."
        )
    begun = first[:1].upper() + first[1:]
    if d.mean > 0:
        return (
            f"{begun} add {d.mean:.1f} [{d.low:.1f}, {d.high:.1f}] points over {second}; n = {d.n}."
        )
    return (
        f"{begun} lose {-d.mean:.1f} [{-d.high:.1f}, {-d.low:.1f}] points to {second}; n = {d.n}."
    )
