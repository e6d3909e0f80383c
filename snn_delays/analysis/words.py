"""Names of rows and columns in the words of the report page, with units."""

from __future__ import annotations

OWNERS = {"synaptic": "synapses", "axonal": "inputs", "dendritic": "neurons"}  # of delays
SCORES = {
    "accuracy, %": "accuracy (%)",
    "low, %": "from (%)",
    "high, %": "to (%)",
    "n": "recordings",
}
MISTAKES = {"certainty": "certainty (%)"}
LAYERS = {
    "excitatory": "share of positive weights",
    "delay_mean_ms": "mean delay (ms)",
    "delay_std_ms": "standard deviation of delays (ms)",
    "weighted_delay_ms": "mean delay by absolute weight (ms)",
    "window_low_ms": "middle 90 % of weight, first delay (ms)",
    "window_high_ms": "middle 90 % of weight, last delay (ms)",
    "window_ms": "width of the middle 90 % of weight (ms)",
    "clamped_low": "share of delays clamped at 0",
    "clamped_high": "share of delays clamped at the longest",
    "moved_ms": "mean distance moved (ms)",
    "weight_sum": "sum of weights",
    "weight_size": "sum of absolute weights",
}
RECURRENT = {
    "weight_size": "sum of absolute weights",
    "delay_ms": "trained (ms)",
    "deployed_ms": "deployed (ms)",
    "drawn_ms": "drawn (ms)",
}
OPERATIONS = {
    "zero_synapses": "synapses of weight 0",
    "connection_sparsity": "share of synapses of weight 0",
    "weights": "weights to store",
    "delays": "delays to store",
    "footprint_bytes": "parameters and buffers (bytes)",
    "accumulator_bytes": "delay buffer, accumulator (bytes)",
    "history_bytes": "delay buffer, history (bytes)",
    "buffer_steps": "delay buffer, longest delays (steps)",
    "activation_sparsity": "share of neurons and steps without a spike",
    "spikes_per_sample": "spikes per recording",
    "acs_per_sample": "accumulates per recording",
    "macs_per_sample": "multiply-accumulates per recording",
    "dense_per_sample": "operations per recording without sparsity",
    "neuron_updates_per_sample": "membrane updates per recording",
    "energy_estimate_pj_per_sample": "estimated energy per recording (pJ)",
}
CAUSAL = {
    "kind": "change",
    "intact": "as trained",
    "shuffled": "shuffled within the layer",
    "mean": "all at the layer's mean",
    "zero": "all at zero",
    "recurrent shuffled": "recurrent delays shuffled within the layer",
    "recurrent mean": "recurrent delays all at the layer's mean",
    "recurrent zero": "recurrent delays all at zero, a step",
    "jitter": "jittered, ± steps",
    "levels": "rounded to so many values",
    "pruned": "share of smallest weights pruned",
    "accuracy": "accuracy (%)",
    "low": "from (%)",
    "high": "to (%)",
    "lowest": "lowest draw (%)",
    "highest": "highest draw (%)",
}
PROVENANCE = {
    "config_hash": "hash of the options",
    "data_hash": "hash of the data",
    "seconds": "duration (s)",
}
SEEDS = {"on": "recordings", "accuracy": "mean accuracy (%)", "low": "from (%)", "high": "to (%)"}
PAIRS = {
    "n": "recordings",
    "first_alone": "first alone right",
    "second_alone": "second alone right",
    "difference": "difference (points)",
    "p_holm": "p, Holm",
}
SIMILARITY = {
    "distance_ms": "distance (ms)",
    "matched": "correlation",
    "chance": "by chance",
    "chance_std": "by chance, standard deviation",
}
