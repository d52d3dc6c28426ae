"""One function that merges defaults, file and overrides; checks that end in ConfigError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas._documents import load_yaml
from nas.config._anchors import Key, anchored
from nas.config._budgets import BY_PHASE, Limits, of_bare_number
from nas.config._errors import describe
from nas.config._run import RunConfig
from nas.errors import ConfigError


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Defaults, then the YAML file, then `KEY=VALUE` overrides; raises ConfigError.

    Relative paths inside the file start at the file's folder, those of overrides at the current
    one, where they were typed.
    """
    data = _read_yaml(path)
    typed = [_apply_override(data, override) for override in overrides]
    config = validate_config(data, str(path))

    def folder_of(key: Key) -> Path:
        return Path.cwd() if any(key[: len(t)] == t for t in typed) else path.parent

    return anchored(config, folder_of)


def validate_config(data: Mapping[str, Any], where: str) -> RunConfig:
    """Check a plain dictionary; `where` opens each error line."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(describe(error, RunConfig, where)) from None


def with_budget(config: RunConfig, path: str, value: float, where: str) -> RunConfig:
    """A copy with another limit for `path`, such as `memory_mib`, `latency_ms` (of prefill),
    `latency_ms.decode` or `scenarios.chat.speedup`; all other limits stay. Raises ConfigError, its
    lines opened by `where`.
    """
    budgets = config.budgets.model_dump(exclude_none=True)
    group: Limits = config.budgets
    section: dict[str, Any] = budgets
    if path.startswith("scenarios.") and path.count(".") > 1:
        _, scenario, path = path.split(".", 2)
        group = config.budgets.scenarios.get(scenario, Limits())
        section = budgets["scenarios"].setdefault(scenario, {})
    name, _, phase = path.partition(".")
    if name in BY_PHASE:
        section[name] = {**group.limits(name), phase or "prefill": value}
    else:
        section[path] = value
    return validate_config({**config.model_dump(), "budgets": budgets}, where)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `nas init` writes a configuration") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(data).__name__}")
    return data


def _apply_override(data: dict[str, Any], override: str) -> Key:
    """Put the value in its place; returns the key."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, as in budgets.latency_ms=12")
    *parents, leaf = key.split(".")
    section = data
    for parent in parents:
        child = _as_section(parent, section.get(parent))
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent} is not a section")
        section[parent] = section = child
    try:
        section[leaf] = load_yaml(text)
    except ValueError as error:
        raise ConfigError(f"--set {override}: not a YAML value: {error}") from error
    return (*parents, leaf)


def _as_section(name: str, value: Any) -> Any:
    """A section where `value` may be written as one: runs store what is unset as null, and limits
    by phase may be a bare number."""
    if value is None:
        return {}
    if name in BY_PHASE and not isinstance(value, dict | list):
        return of_bare_number(value)
    return value
