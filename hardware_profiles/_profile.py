"""A device as data: the figures a forecast needs, each with its source."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from nas.errors import ConfigError


class Link(BaseModel):
    """What joins a device to others of its kind, or to the host where nothing else does.

    `gb_per_s` is the sum of both directions over all lanes or links, as data sheets state it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(min_length=1)
    gb_per_s: PositiveFloat


class HardwareProfile(BaseModel):
    """One device.

    `peak_tflops` holds dense (not sparse) tera operations a second by dtype, for GPUs with float32
    accumulation; `efficiency` is the share of it that large matrix products reach. `cores` and `sm`
    (compute capability without the dot, such as 89) are for CPUs and GPUs alone.
    `link` is None for what stands alone. `launch_overhead_us` is what one kernel or operator costs
    before it works. Channel widths are rounded to `width_multiple`. `tensorrt_rtx_sms` are the
    compute capabilities that TensorRT-RTX engines are built for. `sources` says in words where each
    figure comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    vendor: str
    kind: Literal["cpu", "gpu"]
    cores: PositiveInt | None = None
    sm: PositiveInt | None = None
    memory_gib: PositiveFloat
    bandwidth_gb_per_s: PositiveFloat | None = None
    peak_tflops: dict[
        Literal["float32", "tfloat32", "bfloat16", "float16", "float8"], PositiveFloat
    ] = Field(default_factory=dict)
    efficiency: float = Field(default=0.6, gt=0, le=1)
    link: Link | None = None
    launch_overhead_us: float = Field(ge=0)
    width_multiple: PositiveInt
    tensorrt_rtx_sms: tuple[PositiveInt, ...] = ()
    sources: dict[str, str]

    def peak_flops_per_s(self, dtype: str) -> float:
        """Peak operations a second in `dtype`; raises ConfigError where none is known."""
        for known, tflops in self.peak_tflops.items():
            if known == dtype:
                return tflops * 1e12
        raise ConfigError(
            f"hardware profile {self.name}: peak_tflops has no {dtype}; "
            f"it has {', '.join(self.peak_tflops) or 'none'}; choose another target.dtype"
        )

    def bandwidth_bytes_per_s(self) -> float:
        """Memory bandwidth in bytes a second; raises ConfigError where it is not known."""
        if self.bandwidth_gb_per_s is None:
            raise ConfigError(f"hardware profile {self.name}: bandwidth_gb_per_s is not known")
        return self.bandwidth_gb_per_s * 1e9
