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
    if config.meter == "torch":
        return _torch_meter(config, shape, profile)
    here = profile.name == "local" or (config.provider != "cpu" and profile.kind == "gpu")
    if not here:
        raise ConfigError(
            f"target.meter: onnxruntime measures the machine at hand, and target.hardware is "
            f"{profile.name}; set target.meter to roofline or table, or target.hardware to local "
            f"(where that GPU is in this machine: target.provider to cuda)"
        )
    return OnnxRuntimeMeter(config, shape)


def _torch_meter(config: TargetConfig, shape: ChainShape, profile: HardwareProfile) -> Meter:
    """On the processor for `local`, on this machine's GPU for a GPU."""
    if profile.name != "local" and profile.kind != "gpu":
        raise ConfigError(
            f"target.meter: torch measures the machine at hand, and target.hardware is "
            f"{profile.name}; set target.hardware to local, or to the GPU that is in this machine"
        )
    return TorchMeter(config, shape, "cuda" if profile.kind == "gpu" else "cpu")
