"""Layers that round: what they round to, what their gradients are, what they store."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.blocks import (
    BlockContext,
    QuantisedLinear,
    build_block,
    convert,
    dequantised,
    hold_halves,
    quantised_layers,
    stored_bytes,
    weight_levels,
    with_exact_inputs,
)
from nas.blocks._quantised import as_half, rounded_runs, sequence_levels
from nas.ir import (
    Architecture,
    BlockSpec,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    LinearMap,
    Precision,
    in_precision,
)
from tests.chains import tiny_chain, tiny_ids, tiny_shape

EIGHT_BITS: tuple[Precision, ...] = ("int8", "int8_dynamic")
PRECISIONS: tuple[Precision, ...] = ("float16", *EIGHT_BITS)


def _layer(precision: Precision, inputs: int = 40, outputs: int = 24) -> QuantisedLinear:
    torch.manual_seed(1)
    return QuantisedLinear.of(nn.Linear(inputs, outputs), precision)


def _inputs() -> Tensor:
    torch.manual_seed(2)
    x = torch.randn(3, 7, 40)
    x[1, 2, 5] = 12.0
    return x


def test_each_output_channel_has_a_step_and_errs_by_half_of_it() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 50) * torch.logspace(-3, 2, 6)[:, None]
    weight[2] = 0

    levels, step = weight_levels(weight)

    assert (levels == levels.round()).all()
    assert levels.abs().amax(dim=1).tolist() == [127, 127, 0, 127, 127, 127]
    assert ((levels * step[:, None] - weight).abs() <= step[:, None] * 0.5001).all()


@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.7, 9.0])
def test_a_sequence_is_rounded_as_onnx_defines_it(shift: float) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "step", "zero"])
    infos = [
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in (("y", kinds.UINT8), ("step", kinds.FLOAT), ("zero", kinds.UINT8))
    ]
    entry = helper.make_tensor_value_info("x", kinds.FLOAT, None)
    graph = helper.make_graph([node], "g", [entry], infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    from onnx.reference import ReferenceEvaluator

    x = _inputs() + shift
    found, steps = sequence_levels(x)

    for i, sequence in enumerate(x):
        y, step, zero = ReferenceEvaluator(model).run(None, {"x": sequence.numpy()})
        assert float(steps[i]) == pytest.approx(float(step), rel=1e-6)
        np.testing.assert_array_equal(found[i].numpy(), y.astype(int) - int(zero))


def test_a_sequence_of_zeros_stays_zero() -> None:
    levels, step = sequence_levels(torch.zeros(2, 3, 4))
    assert not levels.any()
    assert (step > 0).all()
    assert not rounded_runs(torch.zeros(2, 3, 4)).any()


def test_runs_of_channels_have_steps_of_their_own() -> None:
    x = _inputs()

    rounded = rounded_runs(x)

    for start, stop in ((0, 32), (32, 40)):
        part, error = x[..., start:stop], (rounded - x)[..., start:stop]
        step = part.abs().amax(dim=-1, keepdim=True) / 127
        assert (error.abs() <= 0.5001 * step).all()
        assert ((rounded[..., start:stop] / step).round() * step).allclose(
            rounded[..., start:stop], atol=1e-6
        )
    assert (rounded != x).float().mean() > 0.9


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_sequence_does_not_feel_its_neighbours(precision: Precision) -> None:
    layer, x = _layer(precision), _inputs()
    with torch.no_grad():
        together, alone = layer(x), torch.cat([layer(row[None]) for row in x])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def _rounded(layer: QuantisedLinear, x: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """The weight that a layer multiplies by, and what it multiplies."""
    weight = layer.weight.detach()
    if precision == "float16":
        return weight.half().float(), x.half().float()
    levels, step = weight_levels(weight)
    if precision == "int8":
        return levels * step[:, None], rounded_runs(x)
    inputs, input_step = sequence_levels(x)
    return levels * step[:, None], inputs * input_step


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_pass_the_rounding(precision: Precision) -> None:
    layer, x = _layer(precision), _inputs().requires_grad_()
    upstream = torch.randn(3, 7, 24)

    (layer(x) * upstream).sum().backward()

    weight, entered = _rounded(layer, x.detach(), precision)
    assert layer.weight.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(
        layer.weight.grad, torch.einsum("bto,bti->oi", upstream, entered), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(x.grad, upstream @ weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bfloat16_computes_on_the_same_levels(precision: Precision) -> None:
    shape = tiny_shape(qkv_bias=True)
    spec = GroupedQueryAttention(kv_heads=2, precision=precision)
    block, x = build_block(shape, "attention", spec), torch.randn(2, 6, 32)
    assert block is not None
    wanted = {n: layer.weight.clone() for n, layer in quantised_layers(block).items()}
    with torch.no_grad():
        exact = block(x, BlockContext())
        convert(block, torch.bfloat16)
        found = block(x.bfloat16(), BlockContext())
    assert found.dtype == torch.bfloat16
    for name, layer in quantised_layers(block).items():
        assert torch.equal(layer.weight, wanted[name])
    assert block.q_proj.bias.dtype == torch.bfloat16
    assert (found - exact).abs().max() < 0.03 * exact.abs().max()


def test_a_narrow_copy_of_a_chain_generates_with_its_cache() -> None:
    spec = GroupedQueryAttention(kv_heads=2, precision="int8_dynamic")
    chain = tiny_chain(tiny_shape(), Architecture(choices={"layers.0.attention": spec}))
    narrow = chain.in_dtype(torch.bfloat16)
    ids = tiny_ids(1, 6)
    with torch.no_grad():
        logits, past = narrow.forward_cached(ids, torch.ones_like(ids), narrow.empty_cache(1))
        assert {entry.key.dtype for entry in past} == {torch.bfloat16}
        assert (logits - chain(ids)).abs().max() < 0.1 * chain(ids).abs().max()
    assert chain.dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_in_floating_point_it_is_the_layer_that_rounds_weights_alone(precision: Precision) -> None:
    block = nn.Sequential(_layer(precision))
    x = _inputs()
    with torch.no_grad():
        plain, exact, rounded = dequantised(block)(x), with_exact_inputs(block)(x), block(x)
    assert type(dequantised(block)[0]) is nn.Linear
    torch.testing.assert_close(plain, exact, atol=1e-5, rtol=1e-5)
    assert (rounded - exact).abs().max() > 1e-4
    assert isinstance(block[0], QuantisedLinear)
    assert not block[0].exact_inputs


@pytest.mark.parametrize(
    ("kind", "spec", "outputs"),
    [
        ("ffn", GatedFeedForward(width=20), 20 + 20 + 32),
        ("ffn", FeedForward(width=20), 20 + 32),
        ("ffn", LinearMap(), 32),
        ("attention", GroupedQueryAttention(kv_heads=2), 32 + 16 + 16 + 32),
    ],
)
def test_a_matrix_takes_a_byte_a_weight_and_a_step_a_channel(
    kind: str, spec: BlockSpec, outputs: int
) -> None:
    shape = tiny_shape()
    block = build_block(shape, kind, spec)
    assert block is not None
    matrices = sum(p.numel() for p in block.parameters() if p.dim() == 2)
    vectors = sum(p.numel() for p in block.parameters() if p.dim() == 1)

    assert stored_bytes(shape, kind, spec, 4) == 4 * (matrices + vectors)
    for precision in EIGHT_BITS:
        found = stored_bytes(shape, kind, in_precision(spec, precision), 4)
        assert found == matrices + 4 * outputs + 4 * vectors
    half = stored_bytes(shape, kind, in_precision(spec, "float16"), 4)
    assert half == 2 * matrices + 4 * vectors


def test_halves_enter_and_leave_and_are_summed_in_more() -> None:
    """Against numpy: float16 in, exact sums, float16 out; the bias is added in float32."""
    layer, x = _layer("float16"), _inputs()
    weight = layer.weight.detach().numpy().astype(np.float16).astype(np.float64)
    sums = x.numpy().astype(np.float16).astype(np.float64) @ weight.T
    with torch.no_grad():
        found = (layer(x) - layer.bias).numpy()

    # The runtime's float32 sum may round to the half beside that of the exact one.
    np.testing.assert_allclose(found, sums.astype(np.float16), rtol=2**-10, atol=2**-20)
    assert (np.abs(found - sums.astype(np.float16)) < 1e-6).mean() > 0.99
    exact = x.double() @ layer.weight.detach().double().T
    assert np.abs(found - exact.numpy()).max() > 1e-4


def test_the_small_and_the_large_are_those_of_float16() -> None:
    x = torch.tensor([1e-9, 3e-8, 5.9e-8, 6e-5, 1.0, 2049.0, 65519.0])
    expected = x.numpy().astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(as_half(x).numpy(), expected)
    assert expected[0] == 0 < expected[1]


def test_what_is_beyond_float16_drowns_the_rest_and_stays_a_number() -> None:
    layer, x = _layer("float16"), _inputs()
    x[0, 3, 1] = -7e4
    with torch.no_grad():
        y = layer(x)
        alone = layer(_inputs())
    assert y.isfinite().all()
    assert (y[0, 3].abs() > 1e9).all()
    y[0, 3] = alone[0, 3]
    torch.testing.assert_close(y, alone)
    assert as_half(torch.tensor(torch.nan)).isnan()


def test_to_be_timed_halves_are_multiplied_as_such() -> None:
    layer, x = _layer("float16"), _inputs()
    block = nn.Sequential(layer)
    with torch.no_grad():
        wanted = block(x)
        hold_halves(block)
        found = block(x)
    assert layer.weight.dtype == torch.float16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-3)
    eight_bits = nn.Sequential(_layer("int8"))
    hold_halves(eight_bits)
    assert eight_bits[0].weight.dtype == torch.float32
