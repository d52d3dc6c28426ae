"""`nas proxies bench`: from a table of accuracies to a verdict on proxies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from nas.errors import ConfigError
from nas.networks import NetworkSpec, is_trained
from nas.progress import Progress
from nas.proxies._accuracies import Accuracies, read_accuracies
from nas.proxies._base import Batch, TeacherView
from nas.proxies._choice import choose
from nas.proxies._combination import Combination
from nas.proxies._evaluate import ScoreTable
from nas.proxies._inputs import Inputs, image_teacher, teacher_digest
from nas.proxies._judge import Verdict, judge
from nas.proxies._log import ScoreLog, read_scores
from nas.proxies._registry import create_proxy
from nas.proxies._scoring import Settings, score_networks, with_controls
from nas.proxies._statistics import split_groups
from search_spaces import ImageSpace, StudentSpace, load_student_space

_OF_A_SPACE = {
    "proxies": "--proxy",
    "data": "--data",
    "teacher": "--teacher",
    "other_teacher": "--other-teacher",
    "controls": "--controls",
    "inits": "--inits",
    "batch": "--batch",
    "log": "--log",
}


@dataclass(frozen=True)
class BenchRequest:
    """What is asked. Scores come from files, from networks of a `space`, or both.

    `accuracy`, `architecture`, `group` and `sizes` are columns of the table. `sample` draws so many
    architectures, no two of one group. With `controls` every proxy that needs pictures, labels or a
    teacher is also run on noise, on labels dealt out anew, and after `other_teacher`. With `choose`
    the best combination is chosen on that share of the groups, and all are judged on the rest.
    """

    table: Path
    accuracy: str = "accuracy"
    architecture: str = "architecture"
    group: str | None = None
    sizes: tuple[str, ...] = ()
    scores: tuple[Path, ...] = ()
    combinations: tuple[str, ...] = ()
    choose: float | None = None
    space: str | None = None
    data: Path | None = None
    teacher: str | None = None
    other_teacher: str | None = None
    proxies: tuple[str, ...] = ()
    controls: bool = False
    sample: int | None = None
    inits: int = 1
    batch: int = 64
    seed: int = 0
    log: Path | None = None
    within: float = 0.1
    top: tuple[int, ...] = (1, 10)
    resamples: int = 500


def bench(request: BenchRequest, progress: Progress | None = None) -> Verdict:
    """Judge proxies on a table of architectures and accuracies.

    Raises:
        ConfigError: the options, the table or the space do not go together.
        ArtifactError: a file is missing or cannot be read.
    """
    _require_companions(request)
    known = read_accuracies(
        request.table,
        accuracy=request.accuracy,
        architecture=request.architecture,
        group=request.group,
        sizes=request.sizes,
    )
    if request.sample is not None:
        known = _sampled(known, request.sample, request.seed)
    found = ScoreTable()
    for path in request.scores:
        _merge(found, read_scores(path))
    if request.space is not None:
        space = _image_space(request.space)
        known = _with_sizes(known, space)
        _merge(found, _scored(request, known, space, progress))
    if not found.rows:
        raise ConfigError("there are no scores; give --scores FILE, or --space and --proxy")
    together = [Combination.parse(text) for text in request.combinations]
    if request.choose is not None:
        chosen, known = _chosen(known, found, request.choose, request.seed)
        together.append(chosen)
    columns = _columns(known, found)
    # Ranks of a combination are among the networks that are judged.
    sizes = known.sizes
    columns |= {str(one): one.combine({**sizes, **columns}) for one in together}
    return judge(
        known,
        columns,
        seconds={name: found.seconds(name) for name in found.proxies},
        within=request.within,
        top=request.top,
        resamples=request.resamples,
        seed=request.seed,
    )


def _require_companions(request: BenchRequest) -> None:
    """Raise ConfigError for options that would say nothing without another."""
    lost = [
        option
        for name, option in _OF_A_SPACE.items()
        if getattr(request, name) != getattr(BenchRequest, name)
    ]
    if request.space is None and lost:
        raise ConfigError(f"{', '.join(lost)}: only with --space, whose networks are scored")
    if request.other_teacher is not None and not request.controls:
        raise ConfigError("--other-teacher: only with --controls, of which it is one")


def _image_space(name: str) -> ImageSpace:
    space = load_student_space(name)
    if not isinstance(space, ImageSpace):
        raise ConfigError(
            f"--space {name}: students of {space.description}; give one of networks over pictures"
        )
    return space


def _columns(known: Accuracies, found: ScoreTable) -> dict[str, list[float]]:
    return {name: found.column(name, known.architectures) for name in found.proxies}


def _chosen(
    known: Accuracies, found: ScoreTable, share: float, seed: int
) -> tuple[Combination, Accuracies]:
    """A combination of sizes and proxies (no controls), and the networks that it has not seen."""
    seen = split_groups(known.groups or known.architectures, share, seed)
    if min(seen.sum(), (~seen).sum()) < 3:
        raise ConfigError(f"--choose {share}: that leaves fewer than three networks on one side")
    part = known.only([int(i) for i in np.flatnonzero(seen)])
    columns = {**part.sizes, **_columns(part, found)}
    chosen = choose(part, columns, [name for name in columns if "(" not in name])
    return chosen, known.only([int(i) for i in np.flatnonzero(~seen)])


def _sampled(known: Accuracies, count: int, seed: int) -> Accuracies:
    """`count` random architectures, one a group."""
    groups = known.groups or known.architectures
    order = np.random.default_rng(seed).permutation(len(groups))
    first = {groups[i]: int(i) for i in reversed(order)}
    if count > len(first):
        raise ConfigError(f"--sample {count}: the table has {len(first)} groups only")
    share = split_groups(list(first), count / len(first), seed)
    rows = [row for row, chosen in zip(first.values(), share, strict=True) if chosen]
    return known.only(sorted(rows))


def _merge(into: ScoreTable, other: ScoreTable) -> None:
    for name, scores in other.rows.items():
        into.rows.setdefault(name, {}).update(scores)


def _with_sizes(known: Accuracies, space: StudentSpace) -> Accuracies:
    """The sizes that the table names, else parameters and operations of the networks."""
    if known.sizes:
        return known
    builders = _specs(known, space)
    sizes = {
        "params": tuple(float(builders[name].size().params) for name in known.architectures),
        "flops": tuple(float(builders[name].size().flops) for name in known.architectures),
    }
    return Accuracies(known.architectures, known.accuracy, known.groups, sizes, known.title)


def _specs(known: Accuracies, space: StudentSpace) -> dict[str, NetworkSpec]:
    wanted = set(known.architectures)
    found = {}
    for choice in space.choices():
        spec = space.spec(choice)
        if spec.key in wanted:
            found[spec.key] = spec
    missing = [name for name in known.architectures if name not in found]
    if missing:
        raise ConfigError(
            f"{missing[0]} is no architecture of the space; its keys look like "
            f"{space.key(next(space.choices()))}"
        )
    return found


def _scored(
    request: BenchRequest, known: Accuracies, space: ImageSpace, progress: Progress | None
) -> ScoreTable:
    if not request.proxies:
        raise ConfigError("--space scores its networks; say by what: --proxy NAME")
    if request.data is None:
        raise ConfigError("--space scores its networks on pictures; give --data FILE")
    proxies = {name: create_proxy(name) for name in request.proxies}
    inputs = Inputs(space, request.data, request.teacher)
    inputs.require(proxies)
    conditions = {
        "space": space.model_dump(mode="json"),
        **inputs.about(),
        "other teacher": teacher_digest(request.other_teacher),
        **{name: getattr(request, name) for name in ("inits", "batch", "seed")},
    }
    settings = _settings(request, space, inputs)
    log = ScoreLog(request.log, conditions)
    builders: dict[str, Callable[[int], nn.Module]] = {
        name: spec.build for name, spec in _specs(known, space).items()
    }
    score_networks(builders, list(proxies.values()), settings, log, progress)
    return log.table


def _settings(request: BenchRequest, space: ImageSpace, inputs: Inputs) -> Settings:
    sittings = inputs.sittings(request.inits, request.batch, request.seed)
    if not request.controls:
        return {"": tuple(sittings)}
    return with_controls(sittings, _other_teacher(request.other_teacher, space))


def _other_teacher(source: str | None, space: ImageSpace) -> Callable[[Batch], TeacherView] | None:
    if source is None:
        return None
    network = image_teacher(source, space, "--other-teacher")
    return lambda batch: TeacherView(network, batch, trained=is_trained(source))
