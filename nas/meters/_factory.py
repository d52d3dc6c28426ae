"""The meter that a target configuration names."""

from __future__ import annotations

from hardware_profiles import HardwareProfile, load_profile
from nas.config import TargetConfig
from nas.errors import ConfigError
from nas.ir import ChainShape, TextShape
from nas.meters._base import Meter
from nas.meters._calibration import load_calibration
from nas.meters._onnxruntime import OnnxRuntimeMeter
from nas.meters._roofline import RooflineMeter
from nas.meters._table import TableMeter
from nas.meters._torch import TorchMeter


def create_meter(config: TargetConfig, shape: ChainShape) -> Meter:
    """Build the meter of `target.meter`; raises ConfigError where it does not fit the hardware."""
    profile = load_profile(config.hardware)
    if config.meter == "roofline":
        known = load_calibration(config.calibration) if config.calibration else None
        if known is not None and not isinstance(shape, TextShape):
            raise ConfigError(
                f"target.calibration: it is of operators over text, and the teacher is a "
                f"{shape.family}; leave it out"
            )
        return RooflineMeter(config, shape, profile, known)
    if config.meter == "table":
        return TableMeter(config, shape)
    require_at_hand(config, profile)
    if config.meter == "torch":
        return TorchMeter(config, shape, "cuda" if profile.kind == "gpu" else "cpu")
    return OnnxRuntimeMeter(config, shape)


def require_at_hand(config: TargetConfig, profile: HardwareProfile) -> None:
    """Raise ConfigError where a meter that measures this machine is asked for another: torch runs
    on the GPU of a GPU's profile, ONNX Runtime does with a provider for it."""
    on_gpu = config.meter == "torch" or config.provider != "cpu"
    if profile.name == "local" or (on_gpu and profile.kind == "gpu"):
        return
    here = "target.provider to cuda" if config.meter == "onnxruntime" else "that of a GPU"
    raise ConfigError(
        f"target.meter: {config.meter} measures the machine at hand, and target.hardware is "
        f"{profile.name}; set target.meter to roofline or table, or target.hardware to local "
        f"(for a GPU that is in this machine: {here})"
    )
