"""The delayed linear map: one signature, one table of implementations.

Shapes: T time, B batch, I inputs, O outputs, C kernel count, D taps.
"""

from collections.abc import Callable

from torch import Tensor

from snn_delays.ops.delay import dense, reference
from snn_delays.ops.delay.kernel import delay_kernel_OID, gaussian_taps_OICD

__all__ = [
    "BACKENDS",
    "choose_backend",
    "delay_kernel_OID",
    "delayed_linear",
    "gaussian_taps_OICD",
]

Implementation = Callable[[Tensor, Tensor, Tensor, float | None, int, int], Tensor]

BACKENDS: dict[str, Implementation] = {
    "reference": reference.delayed_linear,
    "dense": dense.delayed_linear,
}


def choose_backend(name: str) -> str:
    """The implementation that ``name`` stands for; ``auto`` takes the fastest.

    Raises:
        ValueError: no such implementation.
    """
    if name == "auto":
        return "dense"
    if name not in BACKENDS:
        raise ValueError(f"backend={name} is not one of auto, {', '.join(BACKENDS)}.")
    return name


def delayed_linear(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: float | None,
    *,
    taps: int,
    extra_steps: int = 0,
    backend: str = "auto",
) -> Tensor:
    """A linear map whose every synapse has delays of its own (arXiv 2306.17670; DCLS, "gauss").

    ``y[t, b, o] = sum_i sum_j K[o, i, j] x[t - j, b, i]`` with
    ``K[o, i, j] = sum_c weight[o, i, c] g_j(delay[o, i, c], sigma)`` and ``g`` a Gaussian over the
    taps j = 0 .. taps - 1, normalised to one. Before the first step the input is zero.

    Args:
        x: input, [T, B, I].
        weight: [O, I, C].
        delay: delays in steps within [0, taps - 1], [O, I, C].
        sigma: effective width of the Gaussian in steps (> 0), or None for the deployed network:
            one tap per synapse at the rounded delay, differentiable in ``x`` and ``weight`` only.
        taps: number of taps D.
        extra_steps: steps added behind the sequence, so that late delays still arrive.
        backend: a key of ``BACKENDS``, or "auto".

    Returns:
        [T + extra_steps, B, O].

    Raises:
        ValueError: shapes that do not fit together, a width that is not positive, or an unknown
            backend.
    """
    if x.dim() != 3 or weight.dim() != 3 or weight.shape[1] != x.shape[2]:
        raise ValueError(
            f"x {list(x.shape)} must be [T, B, I] and weight {list(weight.shape)} [O, I, C]."
        )
    if delay.shape != weight.shape:
        raise ValueError(f"delay {list(delay.shape)} must be as weight {list(weight.shape)}.")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma={sigma} must be positive.")
    if taps < 1 or extra_steps < 0:
        raise ValueError(f"taps={taps} must be at least 1 and extra_steps={extra_steps} 0.")
    implementation = BACKENDS[choose_backend(backend)]
    return implementation(x, weight, delay, sigma, taps, extra_steps)
