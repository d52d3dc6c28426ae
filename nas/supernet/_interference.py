"""Interference: what students lose by sharing weights, against training each of them alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.networks import BertSpec
from nas.progress import Progress, SilentProgress
from nas.proxies import spearman
from nas.supernet._judge import Agnostic
from nas.supernet._network import SuperNetwork
from nas.supernet._spaces import SubSpace
from nas.supernet._train import Lessons, alone, train


@dataclass(frozen=True)
class Shared:
    """Held-out losses of one student: `inherited` from each SuperLM by name, `alone` trained on its
    own from the same weights by the same steps, `before` any training."""

    sub_space: str
    spec: BertSpec
    before: float
    alone: float
    inherited: Mapping[str, float]


@dataclass(frozen=True)
class Interference:
    """Of one way to share weights, over all measured students.

    `rank_correlation`: Spearman of inherited with stand-alone loss; `within`: the same in each
    sub-space, where sizes differ less; None for fewer than three students. `excess`: the mean of
    inherited over stand-alone loss, less 1.
    """

    name: str
    rank_correlation: float
    within: dict[str, float | None]
    excess: float


def pick_students(
    spaces: Sequence[SubSpace], each: int, seed: int = 0
) -> list[tuple[str, BertSpec]]:
    """`each` students of every sub-space: largest, smallest and random ones, all different."""
    found = []
    for space in spaces:
        rng = random.Random(f"{seed}/{space.name}/interference")
        specs = dict.fromkeys([space.largest, space.smallest])
        while len(specs) < min(each, space.count):
            specs[space.sample(rng)] = None
        found += [(space.name, spec) for spec in list(specs)[:each]]
    return found


def like_students(space: SubSpace, count: int, seed: int = 0) -> list[tuple[str, BertSpec]]:
    """`count` students of a sub-space that are alike in size: drawn from the twice as many whose
    parameters are nearest to the median, so that size says little of which is best."""
    ordered = sorted(space.specs(), key=lambda spec: (spec.size().params, spec.key))
    start = max(0, len(ordered) // 2 - count)
    near = ordered[start : start + 2 * count]
    rng = random.Random(f"{seed}/{space.name}/alike")
    return [(space.name, spec) for spec in rng.sample(near, min(count, len(near)))]


def measure_interference(
    students: Sequence[tuple[str, BertSpec]],
    inherited: Mapping[str, Mapping[str, SuperNetwork]],
    lessons: Lessons,
    judge: Agnostic,
    progress: Progress | None = None,
) -> list[Shared]:
    """Train every student alone and set it beside what it inherits.

    `inherited[way][sub-space]` is the SuperLM that a student of the sub-space comes from.
    """
    progress, rows = progress or SilentProgress(), []
    with progress.task("students alone", len(students)) as advance:
        for name, spec in students:
            network = SuperNetwork(lessons.teacher, spec)
            before = judge.loss(network.extract(spec))
            train(network, lessons, alone(spec))
            shared = {
                way: judge.loss(networks[name].extract(spec)) for way, networks in inherited.items()
            }
            rows.append(Shared(name, spec, before, judge.loss(network.extract(spec)), shared))
            advance(1)
    return rows


def summarise(rows: Sequence[Shared], way: str) -> Interference:
    """Of one way to share, over at least three students."""
    names = list(dict.fromkeys(row.sub_space for row in rows))
    groups = {name: [row for row in rows if row.sub_space == name] for name in names}
    ratios = [row.inherited[way] / row.alone for row in rows]
    return Interference(
        name=way,
        rank_correlation=_correlation(rows, way),
        within={
            name: _correlation(group, way) if len(group) >= 3 else None
            for name, group in groups.items()
        },
        excess=sum(ratios) / len(ratios) - 1,
    )


def _correlation(rows: Sequence[Shared], way: str) -> float:
    return spearman([row.inherited[way] for row in rows], [row.alone for row in rows])
