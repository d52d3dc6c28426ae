"""AutoDistil's agnostic pick at a speed-up, finished alone by as many tokens as others had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nas.chain import EncoderChain
from nas.networks import BertSpec
from nas.passes import PassContext
from nas.run import content_key
from nas.supernet import (
    Agnostic,
    EncoderTimer,
    Lessons,
    Limits,
    Pace,
    RelationObjective,
    Schedule,
    SubSpace,
    SuperNetwork,
    alone,
    sandwich,
    search_subnets,
    sub_spaces,
    train,
)

STEPS, BATCH, LEARNING_RATE = 80, 8, 5e-4
TRIALS = 64
"""Students of each sub-space that are scored."""
SIMILARITY_WEIGHT = 100.0
"""While the pick is finished: relations of the last layer are no measure of an embedding."""


@dataclass(frozen=True)
class Pick:
    """What the search found, finished."""

    spec: BertSpec
    chain: EncoderChain
    pace: Pace


def agnostic_pick(context: PassContext, folder: Path, speedup: float) -> Pick:
    """From three SuperLMs, which stay in `folder`, on the run's own text; timed in turns with the
    teacher under the run's conditions."""
    chain, target = context.teacher.chain, context.config.target
    assert isinstance(chain, EncoderChain)
    schedule = Schedule(STEPS, BATCH, LEARNING_RATE)
    lessons = Lessons(chain, context.text.train, RelationObjective(), schedule, keep=STEPS)
    spaces = sub_spaces(chain.shape)
    networks = [(space, _superlm(context, space, lessons, folder)) for space in spaces]
    timer = EncoderTimer(chain, batch=target.batch, tokens=target.prompt_tokens, repeats=21)
    found = search_subnets(
        networks,
        Agnostic(chain, context.text.score, RelationObjective()),
        Limits(speedup=speedup),
        timer=timer,
        trials=TRIALS,
        progress=context.progress,
    )
    (network,) = (n for space, n in networks if space.name == found.winner.sub_space)
    spec = found.winner.spec
    finished = _finished(context, lessons, network.extract(spec), spec, folder)
    return Pick(spec, finished, timer.time(finished))


def _superlm(context: PassContext, space: SubSpace, lessons: Lessons, folder: Path) -> SuperNetwork:
    chain = context.teacher.chain
    assert isinstance(chain, EncoderChain)
    network = SuperNetwork(chain, space.bound)
    members = [member.model_dump(mode="json") for _, member in space.members]
    key = content_key(context.teacher.fingerprint, lessons.about(), members)
    plan, title = sandwich(space, lessons.schedule), f"SuperLM {space.name}"
    path = folder / f"{key}.safetensors"
    train(network, lessons, plan, checkpoint=path, key=key, progress=context.progress, title=title)
    return network


def _finished(
    context: PassContext, lessons: Lessons, start: EncoderChain, spec: BertSpec, folder: Path
) -> EncoderChain:
    """After as many steps of as many tokens as the run's students had."""
    distill = context.config.distill
    texts = distill.batch_tokens // context.text.train.shape[-1]
    schedule = replace(lessons.schedule, steps=distill.steps, batch=texts, seed=1)
    own = lessons.again(schedule, RelationObjective(similarity_weight=SIMILARITY_WEIGHT))
    network = SuperNetwork(start, spec)
    key = content_key(context.teacher.fingerprint, own.about(), spec.key)
    path, title = folder / f"{key}.safetensors", f"finishing {spec.key}"
    plan, progress = alone(spec), context.progress
    train(network, own, plan, checkpoint=path, key=key, progress=progress, title=title)
    return network.extract(spec)
