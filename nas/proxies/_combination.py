"""Several proxies as one: on ranks or z-scores over a set of networks, never on raw sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np

from nas.errors import ConfigError
from nas.proxies._statistics import Floats, ranks

How = Literal["ranks", "log_ranks", "z_scores"]


@dataclass(frozen=True)
class Combination:
    """The mean over `names` of what each network is worth by that proxy, among a set of networks.

    `ranks`: rank over the number of networks. `log_ranks`: its logarithm, which punishes a low
    rank in any proxy (Lee and Ham, AZ-NAS, CVPR 2024). `z_scores`: deviations from the mean. A
    network whose score is undefined is worth as much as the worst one.
    """

    names: tuple[str, ...]
    how: How = "ranks"

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ConfigError(f"a combination names proxies, each once: {'+'.join(self.names)}")
        if self.how not in get_args(How):
            raise ConfigError(f"no combination by {self.how!r}; known: {', '.join(get_args(How))}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `params+nwot+jacov`, or `log_ranks:params+nwot`; raises ConfigError."""
        how, colon, names = text.rpartition(":")
        chosen: How = "ranks"
        for known in get_args(How):
            if how == known:
                chosen = known
        if colon and how != chosen:
            raise ConfigError(f"{text}: no combination by {how!r}; write ranks:, or nothing")
        return cls(tuple(name.strip() for name in names.split("+")), chosen)

    def __str__(self) -> str:
        return f"{self.how}:{'+'.join(self.names)}"

    def combine(self, columns: Mapping[str, Sequence[float]]) -> list[float]:
        """One value a network from one column a proxy; raises ConfigError if a column lacks."""
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise ConfigError(f"{self}: there are no scores of {', '.join(missing)}")
        worth = [self._worth(np.asarray(columns[name], dtype=np.float64)) for name in self.names]
        total: Floats = np.mean(worth, axis=0)
        return [float(value) for value in total]

    def _worth(self, scores: Floats) -> Floats:
        if self.how == "ranks":
            return ranks(scores) / len(scores)
        if self.how == "log_ranks":
            logs: Floats = np.log(ranks(scores) / len(scores))
            return logs
        known = scores[np.isfinite(scores)]
        if not len(known):
            return np.zeros_like(scores)
        filled = np.where(np.isfinite(scores), scores, known.min())
        spread = float(filled.std())
        return (filled - filled.mean()) / spread if spread else np.zeros_like(filled)
