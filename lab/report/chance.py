"""k of n with an interval: ``1/20`` is not ``0/3``."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959963984540054  # the normal quantile that leaves 2.5 % on each side


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a rate, k seen in n.

    Raises ``ValueError`` for a k that is not within 0 and n.
    Source: E. B. Wilson, Probable inference, J. Am. Stat. Assoc. 22 (1927), without continuity correction.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n}")
    if n == 0:
        return 0.0, 1.0
    rate, z2 = k / n, Z95 * Z95
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high


def interval(k: int, n: int) -> str:
    """``3/20 (5 to 36 %)``."""
    low, high = wilson(k, n)
    return f"{k}/{n} ({100 * low:.0f} to {100 * high:.0f} %)"
