"""The gate of an export: a model loaded from the folder computes what the chain computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nas._quiet import quiet
from nas.backends.huggingface._artifact import HuggingFaceArtifact, HuggingFaceReport
from nas.backends.huggingface._export import CODE_FILES, code_path
from nas.backends.huggingface._load import load_student
from nas.chain import DecoderChain
from nas.chain import greedy_tokens as chain_greedy
from nas.errors import PassError

TOLERANCE = 1e-4


@torch.no_grad()
def check_huggingface(
    artifact: HuggingFaceArtifact,
    chain: DecoderChain,
    ids: Tensor,
    *,
    greedy_tokens: int = 64,
    tolerance: float = TOLERANCE,
) -> HuggingFaceReport:
    """Compare the folder with `chain` on token ids [batch, tokens], in float32.

    Logits may differ by `tolerance`; `greedy_tokens` tokens generated through the key-value cache,
    from the ids and from their left-padded batch, must be equal. Raises PassError with the
    difference, or where the code files in the folder are not the ones nas ships.
    """
    for code in CODE_FILES:
        if (artifact.folder / code).read_bytes() != code_path(code).read_bytes():
            raise PassError(f"{artifact.folder / code} is not what nas ships; export it again")
    reference = _in_float32(chain, artifact)
    model = _load(artifact).to(chain.device)
    ids = ids.to(model.device)
    worst = _logits_difference(model, reference, ids)
    if not worst <= tolerance:
        raise PassError(
            f"{artifact.folder}: logits differ from the student's by {worst:.3g} "
            f"(at most {tolerance:g}); the export is wrong, do not use it"
        )
    _compare_greedy(artifact, model, reference, ids, greedy_tokens)
    return HuggingFaceReport(worst, greedy_tokens)


def _in_float32(chain: DecoderChain, artifact: HuggingFaceArtifact) -> DecoderChain:
    """The chain itself where it is float32, else a wide copy of its exported weights."""
    if chain.dtype == torch.float32:
        return chain
    return load_student(artifact.folder, dtype=torch.float32, device=str(chain.device))


def _load(artifact: HuggingFaceArtifact) -> Any:
    from transformers import GenerationConfig

    from nas.backends.huggingface.remote.modeling_nas import NasForCausalLM

    with quiet():
        model = NasForCausalLM.from_pretrained(artifact.folder, dtype=torch.float32).eval()
    # as many tokens as asked for: no early end
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model


def _logits_difference(model: Any, chain: DecoderChain, ids: Tensor) -> float:
    """Largest absolute difference, one sequence at a time so that memory stays small."""
    worst = [(model(row[None]).logits - chain(row[None])).abs().max() for row in ids]
    return float(torch.stack(worst).max())


def _compare_greedy(
    artifact: HuggingFaceArtifact, model: Any, chain: DecoderChain, ids: Tensor, tokens: int
) -> None:
    """From the whole prompts, and from prompts whose even rows lack their first half."""
    whole = torch.ones_like(ids)
    padded = whole.clone()
    padded[::2, : ids.shape[1] // 2] = 0
    for mask in (whole, padded):
        prompt = ids * mask
        with quiet():
            found = model.generate(
                prompt, attention_mask=mask, max_new_tokens=tokens, do_sample=False
            )[:, ids.shape[1] :]
        expected = chain_greedy(chain, prompt, tokens, attention_mask=mask)
        unequal = (found != expected).nonzero()
        if len(unequal):
            row, position = unequal[0].tolist()
            raise PassError(
                f"{artifact.folder}: greedy token {position} of prompt {row} is "
                f"{int(found[row, position])}, the student's is {int(expected[row, position])}; "
                "the export is wrong, do not use it"
            )
