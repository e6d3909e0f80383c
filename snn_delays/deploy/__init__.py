"""Out of the trainer: a trained network as plain numbers, and what runs it elsewhere."""

from snn_delays.deploy.describe import from_network, from_run
from snn_delays.deploy.network import Deployed, load
from snn_delays.deploy.quantise import quantise
from snn_delays.deploy.stream import Decision, Stream

__all__ = ["Decision", "Deployed", "Stream", "from_network", "from_run", "load", "quantise"]
