"""Global distillation: cosine of hidden states plus KL (arXiv 2411.19146, section 5).

Student and baselines learn in lockstep from the same batches, so the teacher runs once for all of
them and each has seen exactly the same tokens. The state is written every few steps: an interrupted
distillation goes on where the last checkpoint stands. Under torchrun each process takes a part of
every batch and holds a part of every network (`nas.sharding`).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas._numerics import autocast
from nas.chain import Chain
from nas.config import DistillConfig
from nas.data import augmented, tokens_a_sample
from nas.errors import CapabilityError, PassError
from nas.objectives import (
    Objective,
    attention_relation_loss,
    attention_relations,
    attention_vectors,
    cosine_distance,
)
from nas.objectives._attention import Vectors
from nas.passes._batch import windows_a_step
from nas.passes._context import PassContext
from nas.passes.distill_blocks import cosine
from nas.passes.score import scoring_copy
from nas.sharding import Ranks
from nas.sharding.checkpoint import Saved, ShardedCheckpoint
from nas.streaming import StreamedChain


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


class _Teacher(nn.Module):
    """The teacher of a distillation. A module, as `_Network` is, since calling it gathers what is
    sharded."""

    def __init__(self, chain: Chain, objective: Objective, config: DistillConfig) -> None:
        super().__init__()
        self.chain, self.objective, self.config = chain, objective, config

    @torch.no_grad()
    def forward(self, ids: Tensor) -> _Goal:
        chain, states, relations = self.chain, list[Tensor](), None
        start = chain.embed_tokens(ids)
        last = chain.run(start, chain.context(ids), tap=_keep_layers(chain, states))
        if self.config.relation_weight:
            vectors = _vectors(chain, start, states, self.config)
            assert vectors is not None
            relations = attention_relations(vectors, self.config.relation_heads)
        goal = self.objective.goal(chain.final_hidden(last), last)
        return _Goal(ids, states, goal, relations)


class _Network(nn.Module):
    """A student with the terms of its loss."""

    def __init__(self, chain: Chain, objective: Objective, config: DistillConfig) -> None:
        super().__init__()
        self.chain, self.objective, self.config = chain, objective, config

    def forward(self, goal: _Goal) -> tuple[Tensor, Tensor, Tensor | None]:
        """Divergence, mean distance of the states, and that of relations where they are learnt."""
        chain, states, relation = self.chain, list[Tensor](), None
        with autocast(goal.ids.device.type):
            start = chain.embed_tokens(goal.ids)
            last = chain.run(start, chain.context(goal.ids), tap=_keep_layers(chain, states))
            learnt = goal.relations is not None
            vectors = _vectors(chain, start, states, self.config) if learnt else None
        if vectors is not None and goal.relations is not None:
            relation = attention_relation_loss(vectors, goal.relations)
        hidden = chain.final_hidden(last)
        divergence = self.objective.loss(hidden, goal.last, last)
        distances = [cosine_distance(s, t) for s, t in zip(states, goal.states, strict=True)]
        return divergence, torch.stack(distances).mean(), relation


@dataclass
class _Learner:
    network: _Network
    optimiser: torch.optim.Optimizer
    curve: Curve
    ranks: Ranks

    @property
    def chain(self) -> Chain:
        return self.network.chain

    def begin(self) -> None:
        self.curve.kl.append(0.0)
        self.curve.cosine.append(0.0)
        self.curve.relation.append(0.0)

    def accumulate(self, goal: _Goal, share: float, config: DistillConfig) -> None:
        """Add the gradient of a piece that is `share` of the step's batch."""
        started = time.perf_counter()
        divergence, distance, relation = self.network(goal)
        loss = share * (config.kl_weight * divergence + config.cosine_weight * distance)
        if relation is not None:
            loss = loss + share * config.relation_weight * relation
            self.curve.relation[-1] += share * float(relation.detach())
        (self.ranks.size * loss).backward()  # the ranks' gradients are averaged
        self.curve.kl[-1] += share * float(divergence.detach())
        self.curve.cosine[-1] += share * float(distance.detach())
        self.curve.seconds += time.perf_counter() - started

    def finish(self, config: DistillConfig) -> None:
        """Clip, step, and free the gradients: with one piece a step, no two learners hold them."""
        started = time.perf_counter()
        terms = (self.curve.kl, self.curve.cosine, self.curve.relation)
        totals = self.ranks.total([term[-1] for term in terms])
        for term, total in zip(terms, totals, strict=True):
            term[-1] = total
        _require_finite("loss", sum(totals))
        step, warmup = len(self.curve.kl) - 1, max(1, round(config.warmup_fraction * config.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine(step, warmup, config.steps)
        _clip(self.chain.parameters(), config.clip_norm, self.ranks)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.curve.seconds += time.perf_counter() - started


def _clip(parameters: Iterable[nn.Parameter], most: float, ranks: Ranks) -> None:
    """Scale the gradients down to the norm `most`. Collective.

    Ranks divide no row, and what rows add up to is added in float64: of the same gradients, the
    factor in float32 is the same however many ranks there are.
    """
    grads = [ranks.local(p.grad) for p in parameters if p.grad is not None]
    rows = [g if g.dim() == 1 else torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads]
    power = sum(float(r.double().square().sum()) for r in rows)
    norm = math.sqrt(ranks.total([power])[0])
    _require_finite("gradient", norm)
    if norm > most:
        torch._foreach_mul_(grads, most / norm)


def _require_finite(what: str, value: float) -> None:
    if not math.isfinite(value):
        raise PassError(f"the distillation {what} is not finite; lower distill.learning_rate")


def distill(context: PassContext, students: Mapping[str, Chain], keys: Mapping[str, str]) -> None:
    """Train each student in place and store it as the unit `distill/<name>` with its key.

    Collective, as everything below: `context.ranks` train together, and the first of them stores.
    """
    config, ranks = context.config.distill, context.ranks
    _require_one_process(context)
    teacher = _teacher(context, scoring_copy(context.teacher.chain), ranks)
    learners = {
        name: _learner(chain, context.lesson(chain), config, ranks)
        for name, chain in students.items()
    }
    _say_who_learns_no_relations(context, students)
    if ranks.size > 1:
        context.release_teacher()
    checkpoint = ShardedCheckpoint(context.run.path("checkpoints", "distill"), ranks)
    done = _restore(context, checkpoint, learners, keys)
    if done:
        context.progress.say(f"distillation goes on after step {done}")
    batches = _batches(context.text.train, config, context.config.seed)
    with context.progress.task("distill", config.steps - done) as advance:
        for step, ids in enumerate(batches):
            if step < done:
                continue
            if step >= config.steps:
                break
            _step(teacher, learners, ids, config, ranks)
            advance(1)
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
                _save(checkpoint, learners, keys, step + 1)
    for name, learner in learners.items():
        learner.chain.eval().requires_grad_(False)
        _store(context, name, keys[name], learner)
    checkpoint.remove()


def _require_one_process(context: PassContext) -> None:
    """Raise CapabilityError for networks that read weights which sharding would take from them."""
    shape = context.shape
    masked = shape.language and not shape.generates
    if context.ranks.size > 1 and (masked or shape.reads_pictures):
        raise CapabilityError(
            f"distillation in several processes is for decoders and encoders of embeddings; this "
            f"{shape.family} is distilled in one: run it without torchrun"
        )


def _say_who_learns_no_relations(context: PassContext, students: Mapping[str, Chain]) -> None:
    config = context.config.distill
    if config.relation_weight == 0:
        return
    layer = config.relation_layer % context.shape.layers
    for name, student in students.items():
        if not hasattr(student.slot(2 * layer).branch, "q_proj"):
            context.progress.say(f"{name}: no attention in layer {layer}, so no relations there")


def load_distilled(context: PassContext, name: str, student: Chain) -> Chain:
    """Fill an assembled student with its distilled weights."""
    path = context.run.path("students", name, "weights.safetensors")
    missing, unexpected = student.load_state_dict(load_file(path), strict=False)
    lost = [n for n in missing if not n.startswith(student.outside)]
    if lost or unexpected:
        raise PassError(f"{path} does not fit the student: {[*lost, *unexpected][:3]}")
    return student.eval().requires_grad_(False)


def _learner(chain: Chain, objective: Objective, config: DistillConfig, ranks: Ranks) -> _Learner:
    chain.train().requires_grad_(True)
    if not config.train_embeddings:
        for parameter in _outside(chain):
            parameter.requires_grad_(False)
    network = _Network(chain, objective, config)
    ranks.shard(network, _layers(chain), [p for p in _outside(chain) if not p.requires_grad])
    trained = [p for p in chain.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained,
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=config.weight_decay,
        fused=True,
    )
    return _Learner(network, optimiser, Curve(), ranks)


def _teacher(context: PassContext, chain: Chain, ranks: Ranks) -> _Teacher:
    """Of whose slots each rank holds a part; one that is streamed holds one slot."""
    if ranks.size == 1 or isinstance(chain, StreamedChain):
        return _Teacher(chain, context.lesson(chain), context.config.distill)
    # Modules of its own, since the run may go on with this chain.
    own = copy.deepcopy(chain, {id(p): p for p in chain.parameters()})
    teacher = _Teacher(own, context.lesson(own), context.config.distill)
    layers = _layers(own)
    grouped = {id(p) for group in layers for module in group for p in module.parameters()}
    ranks.shard(teacher, layers, [p for p in own.parameters() if id(p) not in grouped])
    return teacher


def _layers(chain: Chain) -> list[list[nn.Module]]:
    """The linear layers of each slot: nearly all weights, and autocast's to convert."""
    slots = (chain.slot(k) for k in range(len(chain.slots)))
    return [[m for m in slot.modules() if isinstance(m, nn.Linear)] for slot in slots]


def _outside(chain: Chain) -> list[nn.Parameter]:
    return [p for name, p in chain.named_parameters() if name.startswith(chain.outside)]


def _batches(train: Tensor, config: DistillConfig, seed: int) -> Iterator[Tensor]:
    """Windows in a new order each epoch, without end; none where there is no step to take."""
    if config.steps == 0:
        return
    per_step = windows_a_step(config, len(train), tokens_a_sample(train))
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(train), generator=generator).split(per_step):
            if len(rows) == per_step:
                yield augmented(train[rows], generator)


def _step(
    teacher: _Teacher,
    learners: Mapping[str, _Learner],
    ids: Tensor,
    config: DistillConfig,
    ranks: Ranks,
) -> None:
    """One optimiser step of every learner. The teacher runs once for all of them."""
    for learner in learners.values():
        learner.begin()
    pieces = ranks.pieces(ids, max(1, config.micro_batch_tokens // tokens_a_sample(ids)))
    for i, (piece, share) in enumerate(pieces):
        goal = teacher(piece.to(teacher.chain.device))
        for learner in learners.values():
            learner.accumulate(goal, share, config)
            if i == len(pieces) - 1:
                learner.finish(config)


def _vectors(
    chain: Chain, start: Tensor, states: list[Tensor], config: DistillConfig
) -> Vectors | None:
    """Queries, keys and values of the layer whose relations are learnt; None where a student has no
    attention there."""
    layer = config.relation_layer % chain.shape.layers
    return attention_vectors(chain.slot(2 * layer), states[layer - 1] if layer else start)


def _keep_layers(chain: Chain, states: list[Tensor]) -> Callable[[int, Tensor], None]:
    """Keeps the residual state after the last slot of each layer."""
    each = chain.shape.slots_per_layer

    def keep(k: int, state: Tensor) -> None:
        if (k + 1) % each == 0:
            states.append(state)

    return keep


def _store(context: PassContext, name: str, key: str, learner: _Learner) -> None:
    outside = () if context.config.distill.train_embeddings else learner.chain.outside
    trained = {}
    for parameter_name, parameter in learner.chain.named_parameters():
        if not (outside and parameter_name.startswith(outside)):
            whole = learner.ranks.whole(parameter.detach())
            if learner.ranks.first:
                trained[parameter_name] = whole.cpu()
    if not learner.ranks.first:
        return
    curve = vars(learner.curve)
    context.run.store(
        f"distill/{name}",
        key,
        {f"students/{name}/weights.safetensors": lambda path: save_file(trained, path)},
        curve,
        learner.curve.seconds,
    )


def _save(
    checkpoint: ShardedCheckpoint,
    learners: Mapping[str, _Learner],
    keys: Mapping[str, str],
    step: int,
) -> None:
    """Weights, optimiser moments and loss curves of all learners."""
    tensors: dict[str, Tensor] = {}
    for name, learner in learners.items():
        for index, parameter in enumerate(_trained(learner)):
            tensors[f"{name}/{index}/value"] = parameter
            for moment, value in learner.optimiser.state[parameter].items():
                tensors[f"{name}/{index}/{moment}"] = value
    curves = {name: vars(learner.curve) for name, learner in learners.items()}
    checkpoint.save(step, tensors, {"keys": dict(keys), "curves": curves})


def _restore(
    context: PassContext,
    checkpoint: ShardedCheckpoint,
    learners: Mapping[str, _Learner],
    keys: Mapping[str, str],
) -> int:
    """Load the checkpoint of the very same units, and perhaps of others that were stored since;
    returns the steps done (0: none).

    A torn checkpoint is named in the events, and distillation starts anew.
    """
    try:
        saved = checkpoint.load()
        if saved is None or any(saved.facts["keys"].get(n) != key for n, key in keys.items()):
            return 0
        curves = {name: Curve(**saved.facts["curves"][name]) for name in learners}
        for name, learner in learners.items():
            for index, parameter in enumerate(_trained(learner)):
                _restore_parameter(saved, f"{name}/{index}/", learner, parameter)
            learner.curve = curves[name]
    except (KeyError, TypeError, ValueError) as error:
        if context.ranks.first:
            file = str(checkpoint.index)
            context.run.event("damaged", unit="distill", file=file, error=str(error))
        return 0
    return saved.step


def _trained(learner: _Learner) -> list[Tensor]:
    return [p for group in learner.optimiser.param_groups for p in group["params"]]


@torch.no_grad()
def _restore_parameter(saved: Saved, prefix: str, learner: _Learner, parameter: Tensor) -> None:
    ranks = learner.ranks
    ranks.local(parameter).copy_(saved.local(prefix + "value"))
    state = learner.optimiser.state[parameter] = {}
    for moment in ("exp_avg", "exp_avg_sq"):
        if prefix + moment in saved.names:
            state[moment] = torch.zeros_like(parameter)
            ranks.local(state[moment]).copy_(saved.local(prefix + moment))
    if prefix + "step" in saved.names:
        state["step"] = saved.local(prefix + "step").to(parameter.device)
