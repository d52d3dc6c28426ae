"""The expansion against networks that are run whole."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from nas.blocks import Block
from nas.ir import Architecture, GatedFeedForward, KeepTeacher, LinearMap, Skip, Slot
from nas.sensitivity import MixedNetwork, Realiser, expand
from tests.chains import tiny_chain, tiny_ids

NUDGED, MOVED = GatedFeedForward(width=40), LinearMap()
"""Labels for the blocks of the stub library: the teacher's block nudged a little, or more."""
SIZES = {NUDGED.label: 0.02, MOVED.label: 0.3}


@pytest.fixture
def network() -> MixedNetwork:
    """A chain whose library holds its own blocks with noise on the last projection."""
    teacher = tiny_chain(architecture=Architecture())

    def load(slot: Slot, spec: object) -> Block | None:
        if isinstance(spec, Skip):
            return None
        k = teacher.slot_ids.index(slot)
        block = copy.deepcopy(teacher.teacher_branch(k))
        last = block.o_proj.weight if slot.kind == "attention" else block.down_proj.weight
        noise = torch.randn(last.shape, generator=torch.Generator().manual_seed(k))
        last += SIZES[spec.label] * 0.25 * noise  # type: ignore[attr-defined]
        return block

    return MixedNetwork(teacher, load)


def test_a_mix_without_swaps_is_the_teacher(network: MixedNetwork) -> None:
    ids, teacher = tiny_ids(2, 9), network.teacher
    state = teacher.run(teacher.embed_tokens(ids), teacher.context(ids))
    torch.testing.assert_close(network.hidden(Architecture(), ids), teacher.final_hidden(state))
    assert Realiser(network, ids)(Architecture()).abs().max() < 1e-7


def test_a_realised_kl_is_that_of_the_logits(network: MixedNetwork) -> None:
    ids, teacher = tiny_ids(3, 9), network.teacher
    mixed = Architecture(choices={"layers.1.ffn": MOVED, "layers.2.attention": Skip()})
    log_p = teacher(ids).log_softmax(-1)
    log_q = teacher.head(network.hidden(mixed, ids)).log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1)
    torch.testing.assert_close(Realiser(network, ids, 2)(mixed), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kept_bytes", [0, 2**29])
def test_a_run_after_others_is_a_run_of_its_own(
    network: MixedNetwork, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.sensitivity._network._STATES_BYTES", kept_bytes)
    ids, swaps = tiny_ids(3, 9), {"layers.1.ffn": MOVED, "layers.2.attention": Skip()}
    architectures = [
        Architecture(choices=swaps),
        Architecture(choices=swaps | {"layers.3.ffn": NUDGED}),
        Architecture(choices=swaps | {"layers.0.ffn": NUDGED}),
        Architecture(),
        Architecture(),
        Architecture(choices=swaps),
    ]
    realise = Realiser(network, ids, 2)
    for architecture in architectures:
        alone = Realiser(network, ids, 2)(architecture)
        assert torch.equal(realise(architecture), alone)


def test_small_swaps_cost_what_the_expansion_says(network: MixedNetwork) -> None:
    ids = tiny_ids(4, 12)
    found = expand(network, Architecture(), {k: [NUDGED] for k in range(8)}, ids, draws=400, seed=0)
    assert np.all(found.slope == 0)
    realise = Realiser(network, ids)
    for i, name in enumerate(found.names):
        swapped = Architecture(choices={name.split("/")[0]: NUDGED})
        assert found.single()[:, i].mean() == pytest.approx(float(realise(swapped).mean()), rel=0.2)


def test_pairs_say_what_two_swaps_cost_together(network: MixedNetwork) -> None:
    ids = tiny_ids(4, 12)
    swaps = {k: [NUDGED] for k in range(8)}
    found = expand(network, Architecture(), swaps, ids, draws=400, seed=0)
    model, realise = found.quadratic([[name] for name in found.names]), Realiser(network, ids)
    slots = [name.split("/")[0] for name in found.names]
    expected, summed, true = [], [], []
    for a in range(8):
        for b in range(a):
            expected.append(model.value(np.array([a, b])))
            summed.append(model.pair[a, a] + model.pair[b, b])
            both = Architecture(choices={slots[a]: NUDGED, slots[b]: NUDGED})
            true.append(float(realise(both).mean()))
    error = np.abs(np.array(expected) - true).mean()
    assert error < 0.7 * np.abs(np.array(summed) - true).mean()


def test_about_a_student_the_slope_is_the_gradient_of_its_kl(network: MixedNetwork) -> None:
    ids = tiny_ids(3, 12)
    present = Architecture(choices={"layers.0.ffn": MOVED, "layers.2.attention": MOVED})
    swaps = {k: [NUDGED, KeepTeacher()] for k in (1, 3, 4)}
    found, realise = expand(network, present, swaps, ids, draws=200, seed=0), Realiser(network, ids)
    base = realise(present).numpy()
    names = dict(zip(found.names, found.single().T, strict=True))
    swapped = present.replaced(Slot(layer=1, kind="ffn"), NUDGED)
    change = realise(swapped).numpy() - base
    assert names["layers.1.ffn/w40"].mean() == pytest.approx(change.mean(), rel=0.3)
    assert np.all(names["layers.1.ffn/teacher"] == 0)  # it stands there already
    healed = present.replaced(Slot(layer=0, kind="ffn"), KeepTeacher())
    assert float(realise(healed).mean()) < base.mean()
    assert names["layers.0.ffn/teacher"].mean() < 0


def test_options_that_were_not_expanded_change_nothing(network: MixedNetwork) -> None:
    found = expand(network, Architecture(), {3: [NUDGED]}, tiny_ids(2, 8), draws=3, seed=0)
    model = found.quadratic([["layers.0.ffn/teacher"], [*found.names]])
    assert model.value(np.array([0])) == 0
    assert model.value(np.array([1])) == pytest.approx(found.single().mean())


def test_an_option_may_be_several_swaps(network: MixedNetwork) -> None:
    swaps = {k: [NUDGED] for k in range(4)}
    found = expand(network, Architecture(), swaps, tiny_ids(3, 12), draws=200, seed=0)
    names = found.names
    single = found.quadratic([[name] for name in names])
    grouped = found.quadratic([names[:2], names[2:]])
    both = single.value(np.array([0, 1]))
    assert grouped.value(np.array([0])) == pytest.approx(both, rel=0.05)


def test_the_draws_are_the_seeds(network: MixedNetwork) -> None:
    def scalars(seed: int) -> np.ndarray:
        ids = tiny_ids(2, 8)
        return expand(network, Architecture(), {3: [NUDGED]}, ids, draws=3, seed=seed).scalars

    np.testing.assert_array_equal(scalars(0), scalars(0))
    assert np.abs(scalars(0) - scalars(1)).max() > 0
