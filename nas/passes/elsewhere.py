"""Measuring on another machine: a folder to carry there, and what its tables teach a roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hardware_profiles import load_profile, with_measured_figures
from nas.errors import CapabilityError, ConfigError
from nas.ir import TextShape
from nas.meters import Calibration, Request, read_table, requests_for
from nas.meters import calibrate as fit_calibration
from nas.meters.pack import Pack, write_pack
from nas.passes._context import PassContext
from nas.run import write_atomically
from search_spaces import load_space


def pack(context: PassContext, folder: Path) -> Pack:
    """Write what measures the blocks of the run under its target's conditions; see `write_pack`."""
    _require_transformer(context)
    device = load_profile(context.config.target.hardware).kind
    return write_pack(
        folder,
        context.config.target,
        context.shape,
        _requests(context),
        device,
        context.progress,
    )


def calibrate(
    context: PassContext, tables: Sequence[Path], output: Path | None
) -> tuple[Calibration, Path]:
    """Fit, and write `output` (by default named after the hardware, in the current folder).

    Raises ConfigError for tables that do not go together or a file that exists.
    """
    _require_transformer(context)
    profile = load_profile(context.config.target.hardware)
    path = output or Path(f"{profile.name}-calibration.json")
    if path.exists():
        raise ConfigError(f"{path} exists already; name another file with --output")
    if profile.name == "local":
        profile = with_measured_figures(profile)
    read = [read_table(table) for table in tables]
    found = fit_calibration(read, context.shape, _requests(context), profile)
    write_atomically(path, found.model_dump_json(indent=1) + "\n")
    return found, path


def _require_transformer(context: PassContext) -> None:
    """Raise CapabilityError for another network: its operators are not among those counted."""
    if not isinstance(context.shape, TextShape):
        raise CapabilityError(
            f"packs and calibrations are of transformers over text, and the teacher is a "
            f"{context.shape.family}; measure it here (target.meter: onnxruntime), or give a table"
        )


def _requests(context: PassContext) -> tuple[Request, ...]:
    """As the pass measure asks for them. The space is not stored: the target may be overridden, and
    another width multiple would make the run's own candidates stale."""
    space = load_space(context.config.space)
    candidates = space.candidates(context.shape, context.width_multiple)
    return requests_for(context.shape, candidates, context.config.target.phases)
