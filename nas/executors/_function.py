"""Functions by the name that a job gives them."""

from __future__ import annotations

import importlib
from typing import Any


def find_function(name: str) -> Any:
    """The function `module:name`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
