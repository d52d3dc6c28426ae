"""A student architecture search compiler.

from pathlib import Path
from nas import RunDirectory, compile_run, load_config

outcome = compile_run(load_config(Path("my.yaml")), RunDirectory.create(Path("runs/my")))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.config import RunConfig, load_config
from nas.run import RunDirectory

if TYPE_CHECKING:
    from nas.compiler import compile_run, make_plan

__all__ = ["RunConfig", "RunDirectory", "compile_run", "load_config", "make_plan"]


def __getattr__(name: str) -> Any:
    """The compiler imports torch, so it is imported on use."""
    if name in ("compile_run", "make_plan"):
        from nas import compiler

        return getattr(compiler, name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
