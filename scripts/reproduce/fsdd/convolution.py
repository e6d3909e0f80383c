"""What a convolutional network without spikes reaches on spoken digits.

    python -m scripts.reproduce.fsdd.convolution <data.root>

The network sees the frames of ``data=fsdd``, summed into 70 channels, without any limit of spiking
networks: 33,082 parameters, three layers of convolutions over time and channels, real numbers. It
trains on three of the four training speakers and is asked about the fourth, each in turn; then it
trains on all four and is asked about the test recordings, with five seeds. The last epoch counts.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from snn_delays.benchmark.statistics import PERCENT, summarise
from snn_delays.cli.compose import compose
from snn_delays.data.dataset import load_data
from snn_delays.data.loaders import Samples

STEPS = 64  # of a recording, from shortly before its first sound
QUIET = 0.1  # of the loudest step: its share of spikes from which on there is sound
ADAPTATION = 0.1  # share of the slow mean that each step renews
EPOCHS, BATCH, LR = 10, 32, 3e-3
SEEDS = 5


def inputs(samples: Samples) -> Tensor:
    """log(1 + counts) minus their slow mean over the past, [N, 1, T, I]."""
    log_NTI = torch.from_numpy(np.stack([_crop(samples.frames(n)) for n in range(len(samples))]))
    log_NTI = torch.log1p(log_NTI)
    slow_NI = torch.zeros_like(log_NTI[:, 0])
    adapted = []
    for log_NI in log_NTI.unbind(1):
        adapted.append(log_NI - slow_NI)
        slow_NI = slow_NI + ADAPTATION * adapted[-1]
    return torch.stack(adapted, 1)[:, None]


def _crop(frames: NDArray[np.generic]) -> NDArray[np.float32]:
    counts = frames.astype(np.float32)
    loud = counts.sum(1)
    first = max(0, int(np.argmax(loud > QUIET * loud.max())) - 4)
    kept = counts[first : first + STEPS]
    return np.pad(kept, [(0, STEPS - len(kept)), (0, 0)])


def network() -> nn.Sequential:
    """Three layers of convolutions, pooled to 4 times and 3 places along the channels."""
    layers: list[nn.Module] = []
    for before, after, size in ((1, 16, 5), (16, 32, 5), (32, 48, 3)):
        layers += [
            nn.Conv2d(before, after, size, stride=2, padding=size // 2),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d((4, 3)), nn.Flatten(), nn.Dropout(0.4), nn.Linear(576, 10)
    )


def train(x: Tensor, y: Tensor, seed: int) -> nn.Sequential:
    """A network trained on ``x`` [N, 1, T, I] and ``y`` [N], in evaluation mode."""
    torch.manual_seed(seed)
    model = network()
    batches = -(-len(y) // BATCH)
    adam = torch.optim.AdamW(model.parameters(), LR, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, LR, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(y)).split(BATCH):
            loss = F.cross_entropy(model(x[chosen]), y[chosen], label_smoothing=0.1)
            adam.zero_grad()
            loss.backward()
            adam.step()
            rate.step()
    return model.eval()


def accuracy(model: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """In percent."""
    with torch.no_grad():
        return 100 * (model(x).argmax(1) == y).double().mean().item()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description="A convolutional network on spoken digits.")
    parser.add_argument("root", metavar="data.root", help="folder that holds fsdd/")
    root = parser.parse_args(arguments).root
    options = ["experiment=fsdd/learned", f"data.root={root}", "data.units_per_channel=10"]
    data = load_data(compose("train", options))
    x, test_x = inputs(data.train), inputs(data.test)
    y, test_y = torch.from_numpy(data.train.labels), torch.from_numpy(data.test.labels)
    speakers, test_speakers = data.train.speakers, data.test.speakers
    assert speakers is not None
    assert test_speakers is not None
    known = torch.from_numpy(np.isin(test_speakers, speakers))
    print("| asked about | accuracy |\n|---|---|")
    left_out = []
    for speaker in sorted(set(speakers)):
        out = torch.from_numpy(speakers == speaker)
        left_out.append(accuracy(train(x[~out], y[~out], 0), x[out], y[out]))
        print(f"| speaker {speaker}, left out | {left_out[-1]:.1f} % |", flush=True)
    print(f"| mean of these | {np.mean(left_out):.1f} % |")
    groups: dict[str, list[float]] = {"known": [], "unseen": []}
    for seed in range(SEEDS):
        model = train(x, y, seed)
        for name, of in (("known", known), ("unseen", ~known)):
            groups[name].append(accuracy(model, test_x[of], test_y[of]))
    for name, values in groups.items():
        s = summarise(values, PERCENT)
        shown = f"{s.mean:.1f} ± {s.std:.1f} % [{s.low:.1f}, {s.high:.1f}]"
        print(f"| {name} speakers, n = {s.n} | {shown} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
