"""Blocks over pictures: closed forms, sizes, and what they compute."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from nas.blocks import KINDS, Block, BlockContext, SlotData, build_block
from nas.blocks._pictures import as_pictures, as_pixels, patches
from nas.ir import (
    Architecture,
    BasicConvolution,
    BlockSpec,
    BottleneckConvolution,
    LinearMap,
    LowRankConvolution,
    SeparableConvolution,
)
from tests.pictures import picture_shape, tiny_classifier

SPECS: tuple[BlockSpec, ...] = (
    BasicConvolution(width=6),
    BasicConvolution(width=4),
    BasicConvolution(width=2),
    BottleneckConvolution(width=4),
    LowRankConvolution(),
    LowRankConvolution(rank=3),
    LowRankConvolution(rank=1),
    SeparableConvolution(),
    SeparableConvolution(multiplier=2),
    LinearMap(),
)
CONTEXT = BlockContext(causal=False)


def _data(kind: str = "stage1", count: int = 240) -> SlotData:
    shape = picture_shape()
    chain = tiny_classifier(Architecture())
    k = next(i for i, slot in enumerate(shape.slots()) if slot.kind == kind)
    teacher = copy.deepcopy(chain.teacher_branch(k))
    generator = torch.Generator().manual_seed(1)
    stage = shape.stage(kind)
    x = torch.randn(count, stage.side**2, stage.channels, generator=generator).relu()
    with torch.no_grad():
        y = teacher(x, CONTEXT)
    return SlotData(
        shape=shape,
        slot_kind=kind,
        teacher=teacher,
        x=x,
        y=y,
        context=CONTEXT,
        held_out=60,
        ridge=1e-6,
    )


def _built(data: SlotData, spec: BlockSpec) -> tuple[Block, float, float]:
    (built,) = KINDS[spec.kind].initialise(data, (spec,))
    assert built.block is not None
    return built.block, built.error, built.sliced_error


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.label)
@pytest.mark.parametrize("kind", ["stage1", "stage3"])
def test_a_closed_form_is_better_than_nothing_and_as_big_as_it_says(
    spec: BlockSpec, kind: str
) -> None:
    data = _data(kind)
    block, error, sliced = _built(data, spec)
    assert error < 1.0
    assert error <= sliced + 1e-6
    assert block(data.x, CONTEXT).shape == data.y.shape
    size = sum(p.numel() for p in block.parameters())
    assert KINDS[spec.kind].parameters(data.shape, kind, spec) == size
    fresh = build_block(data.shape, kind, spec)
    assert fresh is not None
    assert fresh.state_dict().keys() == block.state_dict().keys()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.label)
def test_the_output_layer_reads_the_features(spec: BlockSpec) -> None:
    data = _data()
    block, _, _ = _built(data, spec)
    with torch.no_grad():
        by_features = block.output_layer(block.features(data.x, CONTEXT))
        torch.testing.assert_close(block(data.x, CONTEXT), by_features, atol=1e-5, rtol=1e-4)


def test_the_teachers_width_gives_the_teachers_block() -> None:
    data = _data()
    block, error, _ = _built(data, BasicConvolution(width=6))
    assert error < 1e-4  # features pass in bfloat16 where the processor has it
    with torch.no_grad():
        torch.testing.assert_close(block(data.x, CONTEXT), data.y, atol=2e-2, rtol=2e-2)


def test_the_whole_convolution_is_the_least_squares_solution_and_its_rank_falls() -> None:
    data = _data()
    fitted = slice(len(data.x) - data.held_out)
    with torch.no_grad():
        rows = patches(as_pictures(data.x[fitted], 8)).flatten(0, 1).double()
        rows = torch.cat((rows, torch.ones_like(rows[:, :1])), 1)
        targets = data.y[fitted].flatten(0, 1).double()
        best = torch.linalg.lstsq(rows, targets).solution
        wanted = (rows @ best - targets).pow(2).sum()
        losses = {}
        for rank in (None, 6, 3, 1):
            block, _, _ = _built(data, LowRankConvolution(rank=rank))
            losses[rank] = (block(data.x[fitted], CONTEXT) - data.y[fitted]).double().pow(2).sum()
    assert losses[None] == pytest.approx(float(wanted), rel=1e-3)
    assert losses[6] == pytest.approx(float(wanted), rel=1e-3)
    assert losses[None] <= losses[3] <= losses[1]
    fit = (rows @ best).reshape(-1, 6)
    centred = fit - fit.mean(0)
    left_out = torch.linalg.svdvals(centred)[3:].pow(2).sum()  # Eckart and Young
    assert losses[3] == pytest.approx(float(wanted + left_out), rel=1e-3)


def test_channels_are_given_up_by_what_the_refit_loses() -> None:
    """A channel that another one repeats costs nothing to give up."""
    data = _data()
    teacher = data.teacher
    state = teacher.state_dict()
    for name in ("conv1.weight", "conv1.bias"):
        state[name][5] = state[name][4]
    teacher.load_state_dict(state)
    with torch.no_grad():
        data = SlotData(**{**vars(data), "y": teacher(data.x, CONTEXT)})
    _, error, sliced = _built(data, BasicConvolution(width=5))
    assert error < 1e-5 < sliced


def test_views_of_pictures_are_the_same_numbers() -> None:
    x = torch.randn(2, 16, 3)
    torch.testing.assert_close(as_pixels(as_pictures(x, 4)), x)
    weight = torch.randn(5, 3, 3, 3)
    direct = F.conv2d(as_pictures(x, 4), weight, padding=1)
    torch.testing.assert_close(
        patches(as_pictures(x, 4)) @ weight.flatten(1).T, as_pixels(direct), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.label)
def test_flops_count_every_weight_once_a_pixel(spec: BlockSpec) -> None:
    shape = picture_shape()
    block = build_block(shape, "stage2", spec)
    assert block is not None
    weights = sum(p.numel() for n, p in block.named_parameters() if n.endswith("weight"))
    assert KINDS[spec.kind].flops(shape, "stage2", spec, 3, 1) == 2 * 3 * weights * 4**2
