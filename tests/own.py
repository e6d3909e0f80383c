"""Own parts as a user would write them: a neuron, a kernel shape, readouts, a loss, data sets."""

from __future__ import annotations

import os

import torch
from spikingjelly.activation_based import neuron
from torch import nn
from torch.nn import functional as F


class Adaptive(nn.Module):
    """A LIF neuron whose threshold rises with every spike and falls back."""

    def __init__(self, neurons, tau, v_threshold, surrogate_function):
        super().__init__()
        self.tau, self.v_threshold, self.fire = tau, v_threshold, surrogate_function
        self.rise = nn.Parameter(torch.full((neurons,), 0.1))

    def forward(self, x_TBN):
        v = a = torch.zeros_like(x_TBN[0])
        spikes = []
        for x in x_TBN:
            v = v - v / self.tau + x
            s = self.fire(v - self.v_threshold - a)
            v, a = v * (1 - s.detach()), 0.9 * a + self.rise * s
            spikes.append(s)
        return torch.stack(spikes)


class Lazy(neuron.LIFNode):
    """SpikingJelly's neuron, with arguments passed on."""

    def __init__(self, *args, slack=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.slack = slack


def laplace(u):
    return torch.exp(-u.abs())


def gauss(u):
    return torch.exp(-0.5 * u * u)


def latest(v_TBK):
    return v_TBK[-1]


class Attention(nn.Module):
    """Weighs time steps by what each class learns."""

    def __init__(self, classes):
        super().__init__()
        self.query = nn.Parameter(torch.ones(classes))

    def forward(self, v_TBK):
        share_TB1 = torch.softmax((v_TBK * self.query).sum(2, keepdim=True), 0)
        return (v_TBK * share_TB1).sum(0)


def smooth(scores, target):
    return F.cross_entropy(scores, target, label_smoothing=0.1)


def short_delays(scores, target, network):
    delays = [layer.delay.mean() for layer in network.delayed_layers()]
    return F.cross_entropy(scores, target) + 0.1 * sum(delays)


def letters(config):
    home = config.data.root
    return {split: os.path.join(home, f"{split}.h5") for split in ("train", "test")}


# ---- and as a user would get them wrong --------------------------------------------------------


class NoGradient(nn.Module):
    def forward(self, x):
        return (x > 1).float()


class NoModule:
    pass


class LastStep(nn.Module):
    def forward(self, x):
        return x[-1]


class Demanding(nn.Module):
    def __init__(self, tau, beta):
        super().__init__()


class Remembering(nn.Module):
    def __init__(self, surrogate_function):
        super().__init__()
        self.v, self.fire = 0.0, surrogate_function

    def forward(self, x_TBN):
        spikes = []
        for x in x_TBN:
            v = self.v + x
            spikes.append(self.fire(v - 1))
            self.v = (0.9 * v * (v < 1)).detach()
        return torch.stack(spikes)


class Resetting(Remembering):
    def reset(self):
        self.v = 0.0


class Failing(nn.Module):
    def forward(self, x):
        return x + undefined  # noqa: F821


def one_score(v):
    return v.sum()


def no_slope(u):
    return u.sign().detach()


def no_target(scores):
    return scores.sum()


def every_loss(scores, target):
    return F.cross_entropy(scores, target, reduction="none")


def hard_targets(scores, target):
    return scores[torch.arange(len(target)), target].mean()


def no_files(config):
    return ["train.h5"]


def no_training(config):
    return {"test": "test.h5"}


def numbers(config):
    return {"train": 3}
