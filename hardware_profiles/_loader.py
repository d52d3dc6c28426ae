"""Find, read and check a hardware profile."""

from __future__ import annotations

import difflib
from pathlib import Path

from pydantic import ValidationError

from hardware_profiles._local import local_profile
from hardware_profiles._profile import HardwareProfile
from nas._documents import load_yaml
from nas.errors import ConfigError

_FOLDER = Path(__file__).parent
_LOCAL = "local"


def list_profiles() -> list[str]:
    """Names of the profiles that come with nas; `local` is the machine at hand."""
    return [_LOCAL, *sorted(path.stem for path in _FOLDER.glob("*.yaml"))]


def load_profile(name_or_path: str | Path) -> HardwareProfile:
    """A profile by name, or by the path of a YAML file; raises ConfigError."""
    name = str(name_or_path)
    if name == _LOCAL:
        return local_profile()
    path = _FOLDER / f"{name}.yaml"
    if name not in list_profiles():
        path = Path(name_or_path)
    if not path.is_file():
        close = difflib.get_close_matches(name, list_profiles(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(list_profiles())}"
        raise ConfigError(f"target.hardware: no such hardware profile or file: {name}; {hint}")
    try:
        return HardwareProfile.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, problem['loc'])) or 'profile'}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
