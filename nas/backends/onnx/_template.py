"""One part of a decoder as an ONNX graph whose weights are inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas._imports import require
from nas.backends.onnx._modules import Part
from nas.backends.onnx._quiet import quiet_export
from nas.backends.onnx._translations import custom_translations, divide_by_root
from nas.errors import ConfigError, PassError

if TYPE_CHECKING:
    import onnx_ir as ir

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Example sizes are distinct and above 1, so that no dimension is specialised or merged by accident.
_SIZES = {"batch": 2, "sequence_length": 3, "past_sequence_length": 5, "total_sequence_length": 8}

Dims = tuple[str | int, ...]


@dataclass(frozen=True)
class Template:
    """An exported part: `inputs` and `outputs` in order, then the weights as further inputs.

    `graph` is shared by all that use the template and is never changed.
    """

    graph: ir.Graph
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight_names: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """Names, dimensions and types of what goes in (weights apart), and the names of what comes out.

    `integers`: all inputs are whole numbers; `whole`: those of these names are. A dimension is a
    size or one of `batch`, `sequence_length`, `past_sequence_length`, `total_sequence_length`.
    """

    inputs: dict[str, Dims]
    outputs: tuple[str, ...]
    integers: bool = False
    whole: frozenset[str] = frozenset()


def require_dtype(dtype: str) -> None:
    """Raise ConfigError for a type that is not exported."""
    if dtype not in DTYPES:
        raise ConfigError(f"ONNX dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")


def export_part(part: Part, signature: Signature, dtype: str, opset: int) -> Template:
    """Run torch.onnx on `part` with weights and inputs of `dtype`; raises PassError."""
    require("onnxscript", extra="cpu")
    whole = signature.inputs.keys() if signature.integers else signature.whole
    examples = [
        _example(dims, torch.int64 if name in whole else DTYPES[dtype])
        for name, dims in signature.inputs.items()
    ]
    weights = [weight.to(DTYPES[dtype]) for weight in part.source_weights()]
    dynamic = [
        {axis: dim for axis, dim in enumerate(dims) if isinstance(dim, str)}
        for dims in signature.inputs.values()
    ]
    with quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            part.eval(),
            (*examples, weights),
            dynamo=True,
            opset_version=opset,
            verbose=False,
            custom_translation_table=custom_translations(opset),
            input_names=[*signature.inputs, *part.weight_names],
            output_names=list(signature.outputs),
            dynamic_shapes=(*dynamic, [{} for _ in weights]),
        )
    if program is None or program.model.functions:
        raise PassError(f"torch.onnx made no flat graph of {type(part).__name__} at opset {opset}")
    graph = program.model.graph
    divide_by_root(graph)
    names = [value.name for value in graph.inputs]
    if names != [*signature.inputs, *part.weight_names]:
        raise PassError(f"torch.onnx changed the inputs of {type(part).__name__}: {names}")
    return Template(graph, opset, tuple(signature.inputs), signature.outputs, part.weight_names)


def _example(dims: Sequence[str | int], kind: torch.dtype) -> Tensor:
    sizes = [_SIZES[dim] if isinstance(dim, str) else dim for dim in dims]
    return torch.ones(sizes, dtype=kind)
