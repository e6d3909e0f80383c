"""The delayed linear map: one signature, one table of implementations.

Shapes: T time, B batch, I inputs, O outputs, C kernel count, D taps.
"""

from collections.abc import Callable

from torch import Tensor

from snn_delays.ops.delay import dense, fft, reference
from snn_delays.ops.delay.kernel import delay_kernel_OID, gaussian_taps_OICD

__all__ = [
    "BACKENDS",
    "cheapest_backend",
    "check_backend",
    "delay_kernel_OID",
    "delayed_linear",
    "gaussian_taps_OICD",
]

Implementation = Callable[[Tensor, Tensor, Tensor, float | None, int, int], Tensor]

BACKENDS: dict[str, Implementation] = {
    "reference": reference.delayed_linear,
    "dense": dense.delayed_linear,
    "fft": fft.delayed_linear,
}


def check_backend(name: str) -> None:
    """Refuse a name that is neither "auto" nor a key of ``BACKENDS``.

    Raises:
        ValueError: no such implementation.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"backend={name} is not one of auto, {', '.join(BACKENDS)}.")


def cheapest_backend(x: Tensor, weight: Tensor, taps: int, extra_steps: int) -> str:
    """What "auto" stands for: "dense" or "fft", whichever needs fewer operations at these sizes."""
    T, B, inputs = x.shape
    outputs = weight.shape[0]
    synapses = inputs * outputs
    frequencies = fft.transform_length(T, taps, extra_steps) // 2 + 1
    per_frequency = 4 * T * B * (inputs + outputs) + 4 * taps * synapses + 6 * B * synapses
    dense_operations = 2 * (T + extra_steps) * taps * B * synapses
    return "fft" if frequencies * per_frequency < dense_operations else "dense"


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
        backend: a key of ``BACKENDS``, or "auto": the cheaper of "dense" and "fft".

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
    check_backend(backend)
    if backend == "auto":
        backend = cheapest_backend(x, weight, taps, extra_steps)
    return BACKENDS[backend](x, weight, delay, sigma, taps, extra_steps)
