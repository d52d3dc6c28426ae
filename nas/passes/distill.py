"""Global distillation: cosine of hidden states plus KL (arXiv 2411.19146, section 5).

Student and baselines learn in lockstep from the same batches, so the teacher runs once for all of
them and each has seen exactly the same tokens. The state is written every few steps: an interrupted
distillation goes on where the last checkpoint stands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas._numerics import autocast
from nas.chain import Chain
from nas.config import DistillConfig
from nas.errors import PassError
from nas.objectives import (
    Objective,
    attention_relation_loss,
    attention_relations,
    attention_vectors,
    cosine_distance,
)
from nas.objectives._attention import Vectors
from nas.passes._context import PassContext
from nas.passes.distill_blocks import cosine
from nas.passes.score import scoring_copy
from nas.run import RunDirectory, install


@dataclass
class Curve:
    """Loss of each step, split into its terms."""

    cosine: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    relation: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Goal:
    """What the teacher says of a piece: state after each layer, the objective's goal, and relations
    where they are learnt."""

    ids: Tensor
    states: list[Tensor]
    last: object
    relations: Vectors | None = None


@dataclass(frozen=True)
class _Source:
    """The teacher, and the objective that makes goals of its states."""

    chain: Chain
    objective: Objective


@dataclass
class _Learner:
    chain: Chain
    objective: Objective
    optimiser: torch.optim.Optimizer
    curve: Curve

    def begin(self) -> None:
        self.curve.kl.append(0.0)
        self.curve.cosine.append(0.0)
        self.curve.relation.append(0.0)

    def accumulate(self, goal: _Goal, share: float, config: DistillConfig) -> None:
        """Add the gradient of a piece that is `share` of the step's batch."""
        started = time.perf_counter()
        states: list[Tensor] = []
        with autocast(goal.ids.device.type):
            start = self.chain.embed_tokens(goal.ids)
            last = self.chain.run(
                start, self.chain.context(goal.ids), tap=lambda k, s: _keep_layer(states, k, s)
            )
            vectors = _vectors(self.chain, start, states, config) if goal.relations else None
        hidden = self.chain.final_hidden(last)
        divergence = self.objective.loss(hidden, goal.last)
        distances = [cosine_distance(s, t) for s, t in zip(states, goal.states, strict=True)]
        distance = torch.stack(distances).mean()
        loss = share * (config.kl_weight * divergence + config.cosine_weight * distance)
        if vectors is not None and goal.relations is not None:
            relation = attention_relation_loss(vectors, goal.relations)
            loss = loss + share * config.relation_weight * relation
            self.curve.relation[-1] += share * float(relation.detach())
        if not torch.isfinite(loss):
            raise PassError("the distillation loss is not finite; lower distill.learning_rate")
        loss.backward()
        self.curve.kl[-1] += share * float(divergence.detach())
        self.curve.cosine[-1] += share * float(distance.detach())
        self.curve.seconds += time.perf_counter() - started

    def finish(self, config: DistillConfig) -> None:
        """Clip, step, and free the gradients: with one piece a step, no two learners hold them."""
        started = time.perf_counter()
        step, warmup = len(self.curve.kl) - 1, max(1, round(config.warmup_fraction * config.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine(step, warmup, config.steps)
        nn.utils.clip_grad_norm_(self.chain.parameters(), config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.curve.seconds += time.perf_counter() - started


def distill(context: PassContext, students: Mapping[str, Chain], keys: Mapping[str, str]) -> None:
    """Train each student in place and store it as the unit `distill/<name>` with its key."""
    config = context.config.distill
    weight = config.similarity_weight
    learners = {
        name: _learner(student, context.objective(student, weight), config)
        for name, student in students.items()
    }
    _say_who_learns_no_relations(context, students)
    checkpoint = _Checkpoint(context.run, keys)
    done = checkpoint.restore(learners)
    if done:
        context.progress.say(f"distillation goes on after step {done}")
    chain = scoring_copy(context.teacher.chain)
    teacher = _Source(chain, context.objective(chain, weight))
    batches = _batches(context.text.train, config, context.config.seed)
    with context.progress.task("distill", config.steps - done) as advance:
        for step, ids in enumerate(batches):
            if step < done:
                continue
            if step >= config.steps:
                break
            _step(teacher, learners, ids, config)
            advance(1)
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
                checkpoint.save(learners, step + 1)
    for name, learner in learners.items():
        learner.chain.eval().requires_grad_(False)
        _store(context, name, keys[name], learner)
    checkpoint.remove()


def _say_who_learns_no_relations(context: PassContext, students: Mapping[str, Chain]) -> None:
    config = context.config.distill
    layer = config.relation_layer % context.shape.layers
    for name, student in students.items():
        attends = hasattr(student.slot(2 * layer).branch, "q_proj")
        if config.relation_weight and not attends:
            context.progress.say(f"{name}: no attention in layer {layer}, so no relations there")


def load_distilled(context: PassContext, name: str, student: Chain) -> Chain:
    """Fill an assembled student with its distilled weights."""
    path = context.run.path("students", name, "weights.safetensors")
    missing, unexpected = student.load_state_dict(load_file(path), strict=False)
    lost = [n for n in missing if not n.startswith(student.outside)]
    if lost or unexpected:
        raise PassError(f"{path} does not fit the student: {[*lost, *unexpected][:3]}")
    return student.eval().requires_grad_(False)


def _learner(chain: Chain, objective: Objective, config: DistillConfig) -> _Learner:
    chain.train().requires_grad_(True)
    if not config.train_embeddings:
        for name, parameter in chain.named_parameters():
            if name.startswith(chain.outside):
                parameter.requires_grad_(False)
    trained = [p for p in chain.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained,
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=config.weight_decay,
        fused=True,
    )
    return _Learner(chain, objective, optimiser, Curve())


def _batches(train: Tensor, config: DistillConfig, seed: int) -> Iterator[Tensor]:
    """Windows in a new order each epoch, without end."""
    per_step = max(1, config.batch_tokens // train.shape[1])
    generator = torch.Generator().manual_seed(seed)
    if len(train) < per_step:
        raise PassError(
            f"distill.batch_tokens: {config.batch_tokens} needs {per_step} windows a step, "
            f"the training text has {len(train)}; give more text or a smaller batch"
        )
    while True:
        for rows in torch.randperm(len(train), generator=generator).split(per_step):
            if len(rows) == per_step:
                yield train[rows]


def _step(
    teacher: _Source, learners: Mapping[str, _Learner], ids: Tensor, config: DistillConfig
) -> None:
    """One optimiser step of every learner. The teacher runs once for all of them."""
    for learner in learners.values():
        learner.begin()
    pieces = ids.split(max(1, config.micro_batch_tokens // ids.shape[1]))
    for i, piece in enumerate(pieces):
        goal = _goal(teacher, piece.to(teacher.chain.device), config)
        for learner in learners.values():
            learner.accumulate(goal, len(piece) / len(ids), config)
            if i == len(pieces) - 1:
                learner.finish(config)


@torch.no_grad()
def _goal(teacher: _Source, ids: Tensor, config: DistillConfig) -> _Goal:
    chain, states = teacher.chain, list[Tensor]()
    start = chain.embed_tokens(ids)
    last = chain.run(start, chain.context(ids), tap=lambda k, s: _keep_layer(states, k, s))
    relations = None
    if config.relation_weight:
        vectors = _vectors(chain, start, states, config)
        assert vectors is not None
        relations = attention_relations(vectors, config.relation_heads)
    return _Goal(ids, states, teacher.objective.goal(chain.final_hidden(last)), relations)


def _vectors(
    chain: Chain, start: Tensor, states: list[Tensor], config: DistillConfig
) -> Vectors | None:
    """Queries, keys and values of the layer whose relations are learnt; None where a student has no
    attention there."""
    layer = config.relation_layer % chain.shape.layers
    return attention_vectors(chain.slot(2 * layer), states[layer - 1] if layer else start)


def _keep_layer(states: list[Tensor], k: int, state: Tensor) -> None:
    """Keep the residual state after each layer's second slot."""
    if k % 2 == 1:
        states.append(state)


def _store(context: PassContext, name: str, key: str, learner: _Learner) -> None:
    trained = {n: p.detach() for n, p in learner.chain.named_parameters()}
    if not context.config.distill.train_embeddings:
        outside = learner.chain.outside
        trained = {n: p for n, p in trained.items() if not n.startswith(outside)}
    curve = vars(learner.curve)
    context.run.store(
        f"distill/{name}",
        key,
        {f"students/{name}/weights.safetensors": lambda path: save_file(trained, path)},
        curve,
        learner.curve.seconds,
    )


class _Checkpoint:
    """Weights, optimiser moments and loss curves of all learners after some step."""

    def __init__(self, run: RunDirectory, keys: Mapping[str, str]) -> None:
        self.run = run
        self.path = run.path("checkpoints", "distill.safetensors")
        self.keys = dict(keys)

    def save(self, learners: Mapping[str, _Learner], step: int) -> None:
        """Write beside the previous checkpoint, then take its place."""
        tensors: dict[str, Tensor] = {}
        for name, learner in learners.items():
            for index, parameter in enumerate(_trained(learner)):
                tensors[f"{name}/{index}/value"] = parameter.detach()
                for moment, value in learner.optimiser.state[parameter].items():
                    tensors[f"{name}/{index}/{moment}"] = value
        curves = {name: vars(learner.curve) for name, learner in learners.items()}
        metadata = {"step": str(step), "keys": json.dumps(self.keys), "curves": json.dumps(curves)}
        install(self.path, lambda path: save_file(tensors, path, metadata))

    def restore(self, learners: Mapping[str, _Learner]) -> int:
        """Load the checkpoint of the very same units, and perhaps of others that were stored since;
        returns the steps done (0: none).

        A torn checkpoint is named in the events, and distillation starts anew.
        """
        if not self.path.exists():
            return 0
        try:
            return self._load(learners)
        except (SafetensorError, KeyError, ValueError) as error:
            self.run.event("damaged", unit="distill", file=str(self.path), error=str(error))
            return 0

    def _load(self, learners: Mapping[str, _Learner]) -> int:
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata()
            stored = json.loads(metadata["keys"])
            if any(stored.get(name) != key for name, key in self.keys.items()):
                return 0
            step = int(metadata["step"])
            for name, learner in learners.items():
                for index, parameter in enumerate(_trained(learner)):
                    _restore_parameter(file, f"{name}/{index}/", learner, parameter)
                learner.curve = Curve(**json.loads(metadata["curves"])[name])
        return step

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _trained(learner: _Learner) -> list[Tensor]:
    return [p for group in learner.optimiser.param_groups for p in group["params"]]


def _restore_parameter(file: safe_open, prefix: str, learner: _Learner, parameter: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(file.get_tensor(prefix + "value"))
    moments = [n for n in ("step", "exp_avg", "exp_avg_sq") if prefix + n in file.keys()]  # noqa: SIM118
    learner.optimiser.state[parameter] = {
        n: file.get_tensor(prefix + n).to(parameter.device) for n in moments
    }
