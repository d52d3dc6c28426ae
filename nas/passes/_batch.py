"""How many training windows a step of global distillation takes."""

from __future__ import annotations

from nas.config import DistillConfig
from nas.errors import ConfigError


def windows_a_step(config: DistillConfig, windows: int, tokens: int) -> int:
    """Of `windows` training windows of `tokens` tokens each; raises ConfigError where there are
    too few for a step."""
    wanted = max(1, config.batch_tokens // tokens)
    if windows < wanted:
        raise ConfigError(
            f"distill.batch_tokens: {config.batch_tokens} needs {wanted} windows a step, "
            f"the training text has {windows}; give more text or a smaller batch"
        )
    return wanted
