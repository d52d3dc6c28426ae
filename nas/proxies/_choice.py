"""Which proxies to combine, learnt on some networks and to be judged on others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from nas.errors import ConfigError
from nas.proxies._accuracies import Accuracies
from nas.proxies._combination import Combination, How
from nas.proxies._statistics import spearman

_HOWS: tuple[How, ...] = ("ranks", "log_ranks")


def combinations(names: Sequence[str], most: int) -> Iterator[Combination]:
    """Every set of two to `most` of `names`, on ranks and on their logarithms."""
    for how in _HOWS:
        for count in range(2, most + 1):
            for chosen in itertools.combinations(names, count):
                yield Combination(chosen, how)


def choose(
    known: Accuracies,
    columns: Mapping[str, Sequence[float]],
    names: Sequence[str],
    most: int = 5,
) -> Combination:
    """The combination of `names` with the highest Spearman on `known`, the first of equal ones.

    It is the best of many on these networks: judge it on others, as `split_groups` parts them.
    """
    if len(names) < 2:
        raise ConfigError("a combination is chosen among two proxies or more")

    def worth(combination: Combination) -> float:
        found = spearman(combination.combine(columns), known.accuracy)
        return found if found == found else -2.0

    return max(combinations(names, most), key=worth)
