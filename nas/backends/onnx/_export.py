"""A decoder as one ONNX file with a key-value cache, in the names that optimum and
onnxruntime-genai understand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.backends.onnx._compose import Composer
from nas.backends.onnx._files import save_model
from nas.backends.onnx._library import (
    DEFAULT_OPSET,
    block_template,
    epilogue_template,
    id_inputs,
    prologue_template,
)
from nas.backends.onnx._quantised import weights_of
from nas.backends.onnx._template import Dims, require_dtype
from nas.chain import DecoderChain, SlotModule
from nas.errors import PassError
from nas.ir import GroupedQueryAttention, Slot

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor


@dataclass(frozen=True)
class OnnxArtifact:
    """An exported decoder. `kv_heads` holds the KV heads of each layer that caches."""

    path: Path
    data_path: Path
    dtype: str
    opset: int
    head_dim: int
    kv_heads: dict[int, int]


def export_onnx(
    chain: DecoderChain,
    folder: Path,
    *,
    dtype: str = "float32",
    opset: int | None = None,
) -> OnnxArtifact:
    """Write `folder/model.onnx` and `folder/model.onnx.data`.

    Inputs: `input_ids` [batch, sequence_length], `attention_mask` [batch, total_sequence_length]
    (int64, 0 for left padding), `past_key_values.{i}.key|value`
    [batch, kv_heads, past_sequence_length, head_dim]. Outputs: `logits`
    [batch, sequence_length, vocab], `present.{i}.key|value`. `i` is the layer; layers without
    attention have none. Positions follow from the mask. `dtype` is that of weights, cache and
    logits; norm statistics and angles are computed in float32.

    Raises ConfigError for an unknown dtype, CapabilityError where a package is missing or a rope
    variant cannot be exported, PassError when the file cannot be written.
    """
    opset = DEFAULT_OPSET if opset is None else opset
    model, kv_heads = compose_decoder(chain, dtype, opset)
    path = folder / "model.onnx"
    data_path = save_model(model, path)
    return OnnxArtifact(path, data_path, dtype, opset, chain.shape.head_dim, kv_heads)


def compose_decoder(chain: DecoderChain, dtype: str, opset: int) -> tuple[ir.Model, dict[int, int]]:
    """The model in memory (weights are read when it is written), and KV heads by layer."""
    require_dtype(dtype)
    decoder = _Decoder(chain, dtype, opset)
    for slot, module in zip(chain.slot_ids, chain.slots, strict=True):
        assert isinstance(module, SlotModule)
        if module.branch is not None:
            decoder.add_slot(slot, module)
    model = decoder.finish()
    require_dynamic(model)
    return model, decoder.kv_heads


def require_dynamic(model: ir.Model) -> None:
    """Raise PassError unless batch and lengths of all inputs and outputs are still symbolic."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        axes: tuple[int, ...] = {4: (0, 2), 3: (0, 1)}.get(len(value.shape), (0, 1))
        if value.name == "sentence_embedding":
            axes = (0,)
        fixed = [axis for axis in axes if isinstance(value.shape[axis], int)]
        if fixed:
            raise PassError(f"{value.name} {value.shape}: dimension {fixed[0]} became static")


class _Decoder:
    """Composition state: the residual stream and what every slot shares."""

    def __init__(self, chain: DecoderChain, dtype: str, opset: int) -> None:
        self._chain, self._dtype, self._opset = chain, dtype, opset
        self._composer = Composer("decoder", dtype, opset)
        self._presents: dict[int, list[ir.Value]] = {}
        self.kv_heads: dict[int, int] = {}
        self._embedding = self._composer.add_weight("embed.weight", chain.embed.weight)
        self._state, *self._context = self._composer.instantiate(
            prologue_template(chain.shape, dtype, opset),
            "prologue.",
            self._composer.add_ids(id_inputs(chain.shape), cached=True),
            {"weight": self._embedding},
        )

    def add_slot(self, slot: Slot, module: SlotModule) -> None:
        """Put a slot that is not skipped at the end of the residual stream."""
        shape = self._chain.shape
        spec = shape.resolve(slot, self._chain.architecture.spec(slot))
        template = block_template(shape, slot.kind, spec, self._dtype, self._opset)
        inputs = [self._state]
        if isinstance(spec, GroupedQueryAttention):
            self.kv_heads[slot.layer] = spec.kv_heads
            past = self._composer.add_past(slot.layer, self._past_dims(slot.layer))
            inputs += [*self._context, *past]
        weights = weights_of(module)
        self._state, *present = self._composer.instantiate(template, f"{slot.id}.", inputs, weights)
        if present:
            self._presents[slot.layer] = present

    def finish(self) -> ir.Model:
        """Norm, head and the outputs."""
        chain, shape = self._chain, self._chain.shape
        weights: dict[str, Tensor | ir.Value] = {"norm.weight": chain.norm.weight}
        weights["head.weight"] = self._embedding if shape.tied_embeddings else chain.head.weight
        template = epilogue_template(shape, self._dtype, self._opset)
        (logits,) = self._composer.instantiate(template, "epilogue.", [self._state], weights)
        self._composer.add_output(logits, "logits", ("batch", "sequence_length", shape.vocab_size))
        for layer, values in self._presents.items():
            self._composer.add_present(layer, values, self._past_dims(layer))
        return self._composer.model()

    def _past_dims(self, layer: int) -> Dims:
        head_dim = self._chain.shape.head_dim
        return ("batch", self.kv_heads[layer], "past_sequence_length", head_dim)
