"""Scores of many networks under several settings: as given, and the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from nas.progress import Progress, SilentProgress
from nas.proxies._base import Batch, Proxy, TeacherView, Trial
from nas.proxies._controls import noise_pictures, random_labels
from nas.proxies._evaluate import measure, warm_up
from nas.proxies._log import ScoreLog

NOISE, LABELS, TEACHER = "noise pictures", "random labels", "another teacher"
_TURNS = {NOISE: "data", LABELS: "labels", TEACHER: "teacher"}


@dataclass(frozen=True)
class Sitting:
    """What all networks are shown at a time: a batch, a teacher, a seed for their weights."""

    batch: Batch
    teacher: TeacherView | None = None
    seed: int = 0

    def trial(self, build: Callable[[int], nn.Module]) -> Trial:
        return Trial(build, self.batch, self.teacher, self.seed)

    def shown(self, batch: Batch) -> Sitting:
        """The same with another batch, for networks and teacher alike."""
        view = self.teacher
        if view is not None:
            view = TeacherView(view.network, batch, trained=view.trained)
        return replace(self, batch=batch, teacher=view)


Settings = dict[str, tuple[Sitting, ...]]


def with_controls(
    sittings: Sequence[Sitting], other: Callable[[Batch], TeacherView] | None = None
) -> Settings:
    """The sittings as given, under "", and each control; `other` views another teacher."""
    found: Settings = {"": tuple(sittings)}
    found[NOISE] = tuple(s.shown(noise_pictures(s.batch, s.seed)) for s in sittings)
    if all(s.batch.labels is not None for s in sittings):
        found[LABELS] = tuple(s.shown(random_labels(s.batch, s.seed)) for s in sittings)
    if other is not None:
        found[TEACHER] = tuple(replace(s, teacher=other(s.batch)) for s in sittings)
    return found


def columns_of(proxies: Sequence[Proxy], settings: Settings) -> list[tuple[str, Proxy, str]]:
    """Column, proxy and setting: a control is run for the proxies that need what it replaces.

    Settings of other names are run for all proxies.
    """
    return [
        (f"{proxy.name} ({control})" if control else proxy.name, proxy, control)
        for control in settings
        for proxy in proxies
        if control not in _TURNS or _TURNS[control] in proxy.needs
    ]


def score_networks(
    builders: Mapping[str, Callable[[int], nn.Module]],
    proxies: Sequence[Proxy],
    settings: Settings,
    log: ScoreLog,
    progress: Progress | None = None,
) -> None:
    """Add to `log` what it does not hold yet, network by network.

    A proxy that only counts is run in the first sitting alone: the others would give the same.
    """
    columns = columns_of(proxies, settings)
    for control, sittings in settings.items():
        own = [proxy for _, proxy, setting in columns if setting == control]
        for sitting in sittings:
            warm_up(own, sitting.teacher)
    with (progress or SilentProgress()).task("networks", len(builders)) as advance:
        for name, build in builders.items():
            for column, proxy, control in columns:
                if not log.has(name, column):
                    sittings = settings[control][: 1 if proxy.cost == "count" else None]
                    log.add(name, column, measure(proxy, [s.trial(build) for s in sittings]))
            advance(1)
