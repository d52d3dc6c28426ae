"""Proxies by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import ConfigError
from nas.proxies._autodistil import AutoDistil, AutoDistilMse
from nas.proxies._base import Cost, Proxy
from nas.proxies._controls import PixelGram
from nas.proxies._depth import Depth
from nas.proxies._diswot import Diswot, DiswotRelation, DiswotSemantic
from nas.proxies._expressivity import Expressivity, Progressivity
from nas.proxies._flops import Flops
from nas.proxies._grad_norm import GradNorm
from nas.proxies._jacov import Jacov
from nas.proxies._nwot import Nwot
from nas.proxies._params import Params
from nas.proxies._snip import Snip
from nas.proxies._synflow import LiveParams, SynFlow
from nas.proxies._teacher_cka import TeacherCka
from nas.proxies._trainability import Trainability
from nas.proxies._zen import Zen
from nas.proxies._zico import ZiCo

if TYPE_CHECKING:
    from rich.console import RenderableType

_PROXIES: dict[str, type[Proxy]] = {
    kind.name: kind
    for kind in (
        *(Params, Flops, Depth, LiveParams),
        *(Diswot, DiswotSemantic, DiswotRelation, TeacherCka, AutoDistil, AutoDistilMse),
        *(Nwot, Jacov, SynFlow, ZiCo, Zen, Snip, GradNorm),
        *(Expressivity, Progressivity, Trainability, PixelGram),
    )
}


@dataclass(frozen=True)
class ProxyCard:
    """What a proxy needs beside the network, the dearest pass it runs, and its source."""

    name: str
    needs: tuple[str, ...]
    cost: Cost
    source: str


def list_proxies() -> tuple[str, ...]:
    """All names that `create_proxy` takes."""
    return tuple(_PROXIES)


def describe_proxies() -> tuple[ProxyCard, ...]:
    """One card a proxy, in the order of `list_proxies`."""
    return tuple(
        ProxyCard(kind.name, tuple(sorted(kind.needs)), kind.cost, kind.source)
        for kind in _PROXIES.values()
    )


def proxy_tables(cards: Iterable[ProxyCard]) -> Iterable[RenderableType]:
    """A line a proxy."""
    from nas._tables import table

    rows = [(c.name, ", ".join(c.needs) or "-", c.cost, c.source) for c in cards]
    yield table("proxies", ("name", "needs", "cost", "source"), rows, whole=("name",))


def create_proxy(name: str) -> Proxy:
    """The proxy called `name` with its default settings; raises ConfigError for another name."""
    if name not in _PROXIES:
        close = difflib.get_close_matches(name, _PROXIES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        raise ConfigError(f"no proxy {name!r}{hint} known are {', '.join(_PROXIES)}")
    return _PROXIES[name]()
