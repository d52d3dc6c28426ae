"""Values of proxies: each architecture freshly initialised, on batches drawn once for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.proxies import Proxy, Score, Sitting, measure
from search_spaces import Choice, StudentSpace


class Scorer:
    """`proxies` by name over several sittings; one that only counts needs a single one."""

    def __init__(
        self, space: StudentSpace, proxies: Mapping[str, Proxy], sittings: Sequence[Sitting]
    ) -> None:
        self._space, self._proxies, self._sittings = space, dict(proxies), tuple(sittings)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._proxies)

    def score(self, choice: Choice, name: str) -> Score:
        """One value a sitting; NaN where the proxy is not defined."""
        proxy, spec = self._proxies[name], self._space.spec(choice)
        sittings = self._sittings[:1] if proxy.cost == "count" else self._sittings
        return measure(proxy, [sitting.trial(spec.build) for sitting in sittings])
