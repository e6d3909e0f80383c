"""Options of training (schema) and of the other commands, rules between them, and checks."""

from snn_delays.config.commands import AnalyseConfig, BenchmarkConfig, EncodeConfig, EvaluateConfig
from snn_delays.config.rules import validate
from snn_delays.config.schema import (
    LONGEST_S,
    MEL_BANDS,
    PATHS,
    SIG_END,
    SIGMA_OFFSETS,
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    SyntheticConfig,
    TrackingConfig,
    TrainConfig,
    config_hash,
    result_options,
    shapes_result,
    sigma_offset,
)

__all__ = [
    "LONGEST_S",
    "MEL_BANDS",
    "PATHS",
    "SIGMA_OFFSETS",
    "SIG_END",
    "AnalyseConfig",
    "AugmentConfig",
    "BenchmarkConfig",
    "Config",
    "DataConfig",
    "EncodeConfig",
    "EvaluateConfig",
    "ModelConfig",
    "SyntheticConfig",
    "TrackingConfig",
    "TrainConfig",
    "config_hash",
    "result_options",
    "shapes_result",
    "sigma_offset",
    "validate",
]
