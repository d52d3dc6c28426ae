"""An encoder as one ONNX file, in the names that optimum and sentence-transformers understand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.backends.onnx._compose import Composer
from nas.backends.onnx._export import OnnxArtifact, require_dynamic
from nas.backends.onnx._files import save_model
from nas.backends.onnx._library import (
    DEFAULT_OPSET,
    block_template,
    context_inputs,
    epilogue_template,
    id_inputs,
    prologue_template,
)
from nas.backends.onnx._quantised import weights_of
from nas.backends.onnx._template import require_dtype
from nas.chain import EncoderChain
from nas.ir import Skip

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor


def export_encoder(
    chain: EncoderChain, folder: Path, *, dtype: str = "float32", opset: int | None = None
) -> OnnxArtifact:
    """Write `folder/model.onnx` and `folder/model.onnx.data`.

    Inputs: `input_ids`, `attention_mask` (0 for padding) and, where the encoder knows token types,
    `token_type_ids`, all [batch, sequence_length] int64. Outputs: `last_hidden_state`
    [batch, sequence_length, hidden] and `sentence_embedding` [batch, hidden], pooled and normalised
    as the teacher's; with a masked head `logits` [batch, sequence_length, vocab] in the place of
    embeddings.

    Raises ConfigError for an unknown dtype, CapabilityError where a package is missing, PassError
    when the file cannot be written.
    """
    opset = DEFAULT_OPSET if opset is None else opset
    require_dtype(dtype)
    path = folder / "model.onnx"
    data_path = save_model(compose_encoder(chain, dtype, opset), path)
    return OnnxArtifact(path, data_path, dtype, opset, chain.shape.head_dim, {})


def compose_encoder(chain: EncoderChain, dtype: str, opset: int) -> ir.Model:
    """The model in memory; weights are read when it is written."""
    shape, composer = chain.shape, Composer("encoder", dtype, opset)
    ids = composer.add_ids(id_inputs(shape), cached=False)
    outside: dict[str, Tensor | ir.Value] = {
        n: p for n, p in chain.named_parameters() if n.startswith(chain.outside)
    }
    # One weight for the table that opens the network and, with a masked head, closes it.
    outside["embed.weight"] = composer.add_weight("prologue.embed.weight", chain.embed.weight)
    prologue = prologue_template(shape, dtype, opset)
    state, mask = composer.instantiate(prologue, "prologue.", ids, outside)
    for k, slot in enumerate(chain.slot_ids):
        spec = shape.resolve(slot, chain.architecture.spec(slot))
        if isinstance(spec, Skip) and shape.pre_norm:
            continue
        template = block_template(shape, slot.kind, spec, dtype, opset)
        inputs = [state, *([mask] if context_inputs(shape, spec) else ())]
        weights = weights_of(chain.slot(k))
        (state,) = composer.instantiate(template, f"{slot.id}.", inputs, weights)
    composer.add_output(state, "last_hidden_state", ("batch", "sequence_length", shape.hidden_size))
    epilogue = epilogue_template(shape, dtype, opset)
    if shape.masked_head:
        (logits,) = composer.instantiate(epilogue, "epilogue.", [state], outside)
        composer.add_output(logits, "logits", ("batch", "sequence_length", shape.vocab_size))
    else:
        (embedding,) = composer.instantiate(epilogue, "epilogue.", [state, ids[1]], {})
        composer.add_output(embedding, "sentence_embedding", ("batch", shape.hidden_size))
    model = composer.model()
    require_dynamic(model)
    return model
