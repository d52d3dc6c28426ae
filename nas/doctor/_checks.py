"""The examination: machine, packages, and the needs of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nas.config import RunConfig
from nas.doctor._machine import machine_facts
from nas.doctor._needs import needs_of
from nas.doctor._packages import CORE, OPTIONAL, Package
from nas.errors import CapabilityError

Group = Literal["machine", "packages", "optional", "configuration"]
State = Literal["ok", "missing", "absent"]


class Check(BaseModel):
    """One line of the examination. `command` adds what is missing; `needed`: it must be added."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Group
    name: str
    state: State
    detail: str
    command: str | None = None
    needed: bool = False


def examine(config: RunConfig | None = None, folder: Path | None = None) -> tuple[Check, ...]:
    """All checks; those of group `configuration` only with a `config`."""
    facts = machine_facts(folder or Path.cwd())
    checks = [Check(group="machine", name=n, state="ok", detail=d) for n, d in facts]
    checks.append(_engine_builder())
    checks += [_package(p, "packages", needed=True) for p in CORE]
    checks += [_package(p, "optional", needed=False) for p in OPTIONAL]
    if config is not None:
        checks += _configuration(config)
    return tuple(checks)


def require_all(checks: Iterable[Check]) -> None:
    """Raise CapabilityError that lists what is needed and missing, with what adds it."""
    lacking = [check for check in checks if check.needed and check.state == "missing"]
    if lacking:
        lines = [f"{check.name} ({check.detail}); {check.command}" for check in lacking]
        raise CapabilityError("\n  ".join(["this machine lacks what is needed:", *lines]))


def _package(package: Package, group: Group, *, needed: bool) -> Check:
    version = package.version
    if version is not None:
        return Check(group=group, name=package.module, state="ok", detail=version)
    return Check(
        group=group,
        name=package.module,
        state="missing" if needed else "absent",
        detail=package.purpose,
        command=package.command,
        needed=needed,
    )


def _engine_builder() -> Check:
    """The TensorRT-RTX builder, which needs no GPU."""
    from nas.backends.tensorrt import create_backend

    name = "engine builder"
    try:
        sms = create_backend("tensorrt_rtx").sms()
    except CapabilityError:
        return Check(group="machine", name=name, state="absent", detail="no TensorRT-RTX here")
    known = ", ".join(f"SM{sm}" for sm in sms)
    return Check(group="machine", name=name, state="ok", detail=f"TensorRT-RTX for {known}")


def _configuration(config: RunConfig) -> Iterator[Check]:
    for need in needs_of(config):
        problem = need.missing()
        yield Check(
            group="configuration",
            name=need.name,
            state="missing" if problem else "ok",
            detail=problem or f"needed by {need.reason}",
            command=need.command if problem else None,
            needed=True,
        )
