"""Training a SuperLM by the sandwich rule, and a single student by the same steps.

AutoDistil (arXiv 2201.12507): each step trains the largest and the smallest student and two random
ones, each distilled from the teacher, not from the largest. The teacher runs once for all of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas._numerics import autocast
from nas.chain import EncoderChain
from nas.errors import ArtifactError, ConfigError, PassError
from nas.networks import BertSpec
from nas.progress import Progress, SilentProgress
from nas.run import content_key, install
from nas.supernet._network import SuperNetwork
from nas.supernet._objective import Goal, RelationObjective
from nas.supernet._spaces import SubSpace

Plan = Callable[[int], Sequence[BertSpec]]
"""Which students a step trains."""


@dataclass(frozen=True)
class Schedule:
    """`batch` windows a step; the rate rises over `warmup` of the steps, then falls as a cosine.

    `random_subnets` are trained beside the largest and the smallest. A checkpoint is written every
    `checkpoint_every` steps.
    """

    steps: int = 2000
    batch: int = 16
    learning_rate: float = 5e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    random_subnets: int = 2
    seed: int = 0
    checkpoint_every: int = 50


@dataclass
class Curve:
    """Mean loss of each step, over its students."""

    loss: list[float] = field(default_factory=list)


class Lessons:
    """Batches of training windows [n, tokens], and what the teacher says of them.

    Batches depend on seed and step alone. `keep` of the first goals stay in memory, for several
    networks that learn by the same steps.
    """

    def __init__(
        self,
        teacher: EncoderChain,
        windows: Tensor,
        objective: RelationObjective,
        schedule: Schedule,
        keep: int = 0,
    ) -> None:
        if len(windows) < schedule.batch:
            raise ConfigError(
                f"{len(windows)} windows of training text are fewer than a batch of "
                f"{schedule.batch}; give more text or a smaller batch"
            )
        self.teacher, self.objective, self.schedule = teacher, objective, schedule
        self._windows, self._keep = windows, keep
        self._kept: dict[int, Goal] = {}

    def batch(self, step: int) -> Tensor:
        """Ids [batch, tokens] of a step: every window once before any comes again."""
        size = self.schedule.batch
        epoch, place = divmod(step, len(self._windows) // size)
        generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._windows), generator=generator)
        rows = order[place * size : (place + 1) * size]
        return self._windows[rows].to(self.teacher.device)

    def goal(self, step: int) -> Goal:
        """What the teacher says of the batch of a step."""
        if step in self._kept:
            return self._kept[step]
        with autocast(self.teacher.device.type):
            found = self.objective.goal(self.teacher, self.batch(step))
        if step < self._keep:
            self._kept[step] = found
        return found

    def again(self, schedule: Schedule, objective: RelationObjective | None = None) -> Lessons:
        """The same text by another schedule, and perhaps another objective."""
        return Lessons(self.teacher, self._windows, objective or self.objective, schedule)

    def about(self) -> dict[str, object]:
        """What a network that learned from these depends on."""
        text = content_key(self._windows.tolist())
        schedule = {k: v for k, v in asdict(self.schedule).items() if k != "checkpoint_every"}
        return {"text": text, "objective": asdict(self.objective), "schedule": schedule}


def sandwich(space: SubSpace, schedule: Schedule) -> Plan:
    """The largest student, the smallest and `random_subnets` others, anew each step."""
    largest, smallest = space.largest, space.smallest

    def plan(step: int) -> list[BertSpec]:
        rng = random.Random(f"{schedule.seed}/{step}")
        others = [space.sample(rng) for _ in range(schedule.random_subnets)]
        # One that is drawn twice, or is all there is, would be trained twice by the same batch.
        return list(dict.fromkeys([largest, smallest, *others]))

    return plan


def alone(spec: BertSpec) -> Plan:
    """One student, each step."""
    return lambda step: [spec]


def train(
    network: SuperNetwork,
    lessons: Lessons,
    plan: Plan,
    *,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress | None = None,
    title: str = "train",
) -> Curve:
    """Train in place by all steps of the schedule; returns what they took.

    With `checkpoint`, the state is kept in that file, and a later call with an equal `key` goes on
    from it, step for step as if nothing had been between. A finished file stays: it is the result.
    Raises ArtifactError for a file of another key or a torn one, PassError where the loss is no
    longer finite.
    """
    schedule, progress = lessons.schedule, progress or SilentProgress()
    chain = network.chain.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        chain.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        betas=(0.9, 0.98),
        fused=True,
    )
    keeper = _Keeper(checkpoint, key, chain, optimiser)
    curve = keeper.restore()
    with progress.task(title, schedule.steps - len(curve.loss)) as advance:
        for step in range(len(curve.loss), schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.learning_rate * _share(step, schedule)
            curve.loss.append(_step(network, lessons, plan(step), step))
            nn.utils.clip_grad_norm_(chain.parameters(), schedule.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            advance(1)
            if (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps:
                keeper.save(curve)
    chain.requires_grad_(False)
    return curve


def _step(network: SuperNetwork, lessons: Lessons, specs: Sequence[BertSpec], step: int) -> float:
    """Accumulate the gradient of the mean loss of `specs`; returns that loss."""
    ids, goal, objective = lessons.batch(step), lessons.goal(step), lessons.objective
    gathered = network.rows(ids)
    rows, total = gathered.detach().requires_grad_(), 0.0
    for spec in specs:
        with autocast(ids.device.type):
            seen = network.look(spec, ids, rows, objective.embeds)
        loss = objective.loss(seen, goal) / len(specs)
        if not torch.isfinite(loss):
            raise PassError(
                f"the loss of {spec.key} is not finite at step {step}; lower the learning rate"
            )
        loss.backward()  # each at once, so that the activations of one student are held at a time
        total += float(loss.detach())
    gathered.backward(rows.grad)
    return total


def _share(step: int, schedule: Schedule) -> float:
    """Of the full rate: a warm-up, then half a cosine."""
    rise = max(1, round(schedule.warmup * schedule.steps))
    if step < rise:
        return (step + 1) / rise
    at = (step - rise) / max(1, schedule.steps - rise)
    return 0.5 * (1 + float(torch.cos(torch.tensor(at * torch.pi))))


class _Keeper:
    """The state of a training as one safetensors file: weights, moments, losses so far."""

    def __init__(
        self, path: Path | None, key: str, chain: EncoderChain, optimiser: torch.optim.Optimizer
    ) -> None:
        self._path, self._key, self._chain, self._optimiser = path, key, chain, optimiser

    def save(self, curve: Curve) -> None:
        if self._path is None:
            return
        tensors = {}
        for name, parameter in self._chain.named_parameters():
            tensors[f"weight.{name}"] = parameter.detach()
            state = self._optimiser.state[parameter]
            for part in ("exp_avg", "exp_avg_sq", "step"):
                if part in state:
                    tensors[f"{part}.{name}"] = state[part]
        notes = {"key": self._key, "loss": json.dumps(curve.loss)}
        install(self._path, lambda path: save_file(tensors, path, notes))

    def restore(self) -> Curve:
        if self._path is None or not self._path.exists():
            return Curve()
        try:
            with safe_open(self._path, "pt") as handle:
                notes = handle.metadata() or {}
            if notes.get("key") != self._key:
                raise ArtifactError(
                    f"{self._path} belongs to another training; name another folder or delete it"
                )
            tensors = load_file(self._path, device=str(self._chain.device))
            self._fill(tensors)
            return Curve([float(loss) for loss in json.loads(notes["loss"])])
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{self._path} is torn ({error}); delete it to start that training anew"
            ) from error

    def _fill(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._chain.named_parameters():
                parameter.copy_(tensors[f"weight.{name}"])
                if f"exp_avg.{name}" in tensors:
                    self._optimiser.state[parameter] = {
                        "exp_avg": tensors[f"exp_avg.{name}"],
                        "exp_avg_sq": tensors[f"exp_avg_sq.{name}"],
                        "step": tensors[f"step.{name}"],
                    }
