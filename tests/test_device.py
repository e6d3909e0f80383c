"""Number formats: what a GPU may round."""

from __future__ import annotations

import pytest
import torch

from snn_delays.device import tensor_cores


@pytest.mark.parametrize(
    ("precision", "rounds"), [("float32", False), ("tf32", True), ("mixed", True)]
)
def test_tensor_cores_are_used_where_asked_for(precision, rounds) -> None:
    def now() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = now()
    with tensor_cores(precision):
        assert now() == (rounds, rounds)
    assert now() == before
