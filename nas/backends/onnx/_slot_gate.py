"""Whether each block that rounds in an exported file is the block that was exported.

A gate of a whole network has to be wide where layers round: two exact implementations drift apart
by about what the rounding changes. Within one block, from the same input, they do not: a sum in
another order moves few activations to the next level. So the file's own states are read at every
slot that rounds, each is given to torch's block, and what comes out is compared. One block that
multiplies by other steps or a wrong zero point is found, and named, in a network that is otherwise
right.

A processor's ONNX Runtime has no products of halves and leaves the two casts around one out, so of
half precision it computes the rounding of the weights alone. That is torch's block without its
other rounding, and either is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nas._imports import require
from nas.backends.onnx._export import OnnxArtifact
from nas.blocks import quantised_layers, with_exact_inputs
from nas.chain import EncoderChain
from nas.errors import PassError

if TYPE_CHECKING:
    from torch import Tensor

    from nas.blocks import BlockContext
    from nas.chain import DecoderChain, SlotModule

SLOT_LIMIT = 0.7
"""Share of what rounding the inputs of a block changes. One that leaves the rounding out is at 1, a
zero point that is off by one above 3, another step at once far above."""


@dataclass(frozen=True)
class SlotReport:
    """The slot that is furthest from torch's: root mean square of the difference, over that of what
    rounding its inputs changes."""

    slot: str
    share: float


def check_slots(
    artifact: OnnxArtifact, chain: DecoderChain | EncoderChain, ids: Tensor
) -> SlotReport | None:
    """Compare each slot that rounds with torch's on the states that the file itself computes for
    each row of `ids` [batch, tokens]; None where no slot does.

    Raises PassError, with the slot, where one is further off than `SLOT_LIMIT`."""
    wanted = [k for k in range(len(chain.slots)) if quantised_layers(chain.slot(k))]
    if not wanted:
        return None
    found = [
        SlotReport(chain.slot_ids[k].id, _share(chain.slot(k), state, context, after))
        for row in ids.cpu().long().split(1)
        for k, state, context, after in _visited(artifact.path, chain, row, wanted)
    ]
    worst = max(found, key=lambda report: report.share)
    bad = [report for report in found if not report.share <= SLOT_LIMIT]  # so that NaN fails too
    if bad:
        names = ", ".join(sorted({report.slot for report in bad})[:4])
        raise PassError(
            f"{artifact.path}: {names}: the file differs from torch's block by {bad[0].share:.3g} "
            f"of what rounding changes, {SLOT_LIMIT:g} is allowed; it does not compute this block"
        )
    return worst


@torch.no_grad()
def _share(slot: SlotModule, state: Tensor, context: BlockContext, after: Tensor) -> float:
    """0 for the same; what float32 itself leaves open does not count."""
    ours, exact = (_step(one, state, context) for one in (slot, with_exact_inputs(slot)))
    rounding, apart = _rms(ours - exact), _rms(after - ours)
    if any(layer.precision == "float16" for layer in quantised_layers(slot).values()):
        apart = min(apart, _rms(after - exact))
    return apart / max(rounding, 1e-5 * _rms(ours))


def _step(slot: SlotModule, state: Tensor, context: BlockContext) -> Tensor:
    if slot.caches:
        past = slot.cached_branch.empty_cache(len(state), state.dtype)
        return slot.forward_cached(state, context, past)[0]
    after: Tensor = slot(state, context)
    return after


def _rms(x: Tensor) -> float:
    return float(x.double().pow(2).mean().sqrt())


def _visited(
    path: Path, chain: DecoderChain | EncoderChain, row: Tensor, wanted: Sequence[int]
) -> Iterator[tuple[int, Tensor, BlockContext, Tensor]]:
    """Each slot of `wanted` with the states before and after it in the file, and its context."""
    states = _states(path, chain, row)
    device, mask = chain.device, torch.ones_like(row).to(chain.device)
    before = chain.embed_tokens(row.to(device))
    if isinstance(chain, EncoderChain):
        context = chain.context(row.to(device))
    else:
        context = chain.cached_context(mask, row.shape[1])
    for k, slot in enumerate(chain.slot_ids):
        after = states.get(slot.id)
        if after is None:  # skipped: the state passes
            continue
        tensor = torch.from_numpy(after).to(device)
        if k in wanted:
            yield k, before, context, tensor
        before = tensor


def _states(
    path: Path, chain: DecoderChain | EncoderChain, row: Tensor
) -> dict[str, np.ndarray[Any, Any]]:
    """Slot -> the state behind it [1, tokens, hidden], as the file computes it.

    A copy of the graph, which shares its weights, has them as further outputs."""
    from nas.backends.onnxruntime import open_session

    onnx = require("onnx", extra="cpu")
    model = onnx.load(str(path), load_external_data=False)
    names = _boundaries(model.graph, [slot.id for slot in chain.slot_ids])
    there = {output.name for output in model.graph.output}
    kind = onnx.TensorProto.FLOAT
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, kind, None)
        for name in names.values()
        if name not in there
    )
    opened_up = path.with_name(f".{path.stem}.slots.onnx")
    try:
        opened_up.write_bytes(model.SerializeToString())
        session = open_session(opened_up)
        found = session.run(list(names.values()), _feed(session, row))
    except OSError as error:
        raise PassError(f"cannot write {opened_up}: {error.strerror or error}") from error
    finally:
        opened_up.unlink(missing_ok=True)
    return dict(zip(names, found, strict=True))


def _boundaries(graph: Any, slots: Sequence[str]) -> dict[str, str]:
    """Slot -> the one value that leaves it and is no cache; nothing for a slot without nodes."""
    owner: dict[str, str] = {}
    for node in graph.node:
        slot = ".".join(node.name.split(".")[:3])
        owner.update(dict.fromkeys(node.output, slot))
    leaving: dict[str, str] = {}
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        slot = ".".join(node.name.split(".")[:3])
        for name in node.input:
            if owner.get(name, slot) != slot:
                leaving[owner[name]] = name
    for name in outputs - {name for name in outputs if name.startswith("present.")}:
        leaving.setdefault(owner.get(name, ""), name)
    return {slot: leaving[slot] for slot in slots if slot in leaving}


def _feed(session: Any, row: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    ids = row.numpy()
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    given["token_type_ids"] = np.zeros_like(ids)
    feed = {}
    for node in session.get_inputs():
        if node.name in given:
            feed[node.name] = given[node.name]
        else:  # an empty cache
            _, heads, _, dim = node.shape
            feed[node.name] = np.zeros((1, heads, 0, dim), np.float32)
    return feed
