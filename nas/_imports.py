"""Optional packages: imported in one place, on use, with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from nas.errors import CapabilityError


def require(module: str, *, extra: str | None = None, package: str | None = None) -> ModuleType:
    """Import `module` or raise CapabilityError that names the command which adds it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = f"-e '.[{extra}]'" if extra else (package or module.split(".")[0])
        raise CapabilityError(
            f"the package {module} is needed here and cannot be imported ({error}); "
            f"add it with: pip install {wanted}"
        ) from error
