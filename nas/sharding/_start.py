"""Whether torchrun started this process, as its environment says."""

from __future__ import annotations

import os

from nas.errors import ConfigError
from nas.sharding._alone import Alone
from nas.sharding._base import Ranks


def join_ranks() -> Ranks:
    """The processes that torchrun started together; this one alone where it was started otherwise.

    Raises ConfigError for an environment that is not torchrun's.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return Alone()
    from nas.sharding._torchrun import TorchrunRanks

    try:
        return TorchrunRanks(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local=int(os.environ["LOCAL_RANK"]),
            address=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
            attempt=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(f"torchrun's environment is incomplete: {error}") from error
