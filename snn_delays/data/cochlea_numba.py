# mypy: allow-untyped-defs
"""Hair cells and bushy cells, compiled; see ``data.cochlea`` for the model.

Every product and sum is rounded as in ``data.cochlea``, so that the spikes are the same.
Shapes: C channels, T steps, S largest number of spikes.
"""

from __future__ import annotations

import functools

import numpy as np

from snn_delays.runtime.numba_jit import inner, kernel, prange

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
SHIFT_1, SHIFT_2, SHIFT_3, SHIFT_4 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
UNIT = 2.0**-53

exact_inner = functools.partial(inner, fastmath=False)
exact_kernel = functools.partial(kernel, fastmath=False)


@exact_inner
def _uniform(counter):
    z = (counter ^ (counter >> SHIFT_1)) * MIX_1
    z = (z ^ (z >> SHIFT_2)) * MIX_2
    z = z ^ (z >> SHIFT_3)
    return np.int64(z >> SHIFT_4) * UNIT


@exact_inner
def _power(base, n):
    product = 1.0
    while n > 0:
        if n & 1:
            product = product * base
        base = base * base
        n >>= 1
    return product


@exact_inner
def _binomial(u, n, p):
    """Number of n fibres that fire; mostly 0, which the first test finds cheaply."""
    if u < 1.0 - n * p:
        return 0
    chance = _power(1.0 - p, n)
    odds = p / (1.0 - p)
    total = chance
    fired = 0
    while u >= total and fired < n:
        chance = chance * (odds * (n - fired) / (fired + 1))
        total = total + chance
        fired += 1
    return fired


@exact_inner
def _pools(b, q, c, w, hair):
    """One Euler step of free transmitter q, cleft c and store w."""
    a_b, b_b, g, y, keep_c, r, x, keep_w, m = hair
    drive = b + a_b
    k = g * drive / (drive + b_b) if drive > 0.0 else 0.0
    refill = y * max(m - q, 0.0) + x * w
    return q * (1.0 - k) + refill, c * keep_c + k * q, w * keep_w + r * c


@exact_inner
def _channel(b_T, key, rest, hair, chance, bushy, fibres, refractory, ring, step_S):
    """Spikes of one channel's bushy cell: their steps go to step_S, their number is returned."""
    q, c, w = rest
    decay_current, decay_v, weight = bushy
    ring[:] = 0  # fibres that fired at each step of the last millisecond
    ready = fibres
    current = 0.0
    v = 0.0
    blocked = 0
    spikes = 0
    counter = key
    slot = 0
    for t in range(b_T.size):
        counter += GOLDEN
        q, c, w = _pools(np.float64(b_T[t]), q, c, w, hair)
        ready += ring[slot]
        fired = _binomial(_uniform(counter), ready, chance * c)
        ring[slot] = fired
        ready -= fired
        slot = slot + 1 if slot + 1 < refractory else 0
        current = current * decay_current + weight * fired
        v = v * decay_v + current
        if blocked > 0:
            blocked -= 1
            v = 0.0
        if v >= 1.0:
            v = 0.0
            blocked = refractory
            step_S[spikes] = t
            spikes += 1
    return spikes


@exact_kernel
def fire(jobs, b_CT, key_C, rest, hair, chance, bushy, fibres, refractory, step_CS, count_C):
    """Steps at which each channel's bushy cell fires, and how often it does."""
    C = b_CT.shape[0]
    for job in prange(jobs):
        ring = np.empty(refractory, np.int64)
        for n in range(job * C // jobs, (job + 1) * C // jobs):
            count_C[n] = _channel(
                b_CT[n], key_C[n], rest, hair, chance, bushy, fibres, refractory, ring, step_CS[n]
            )
