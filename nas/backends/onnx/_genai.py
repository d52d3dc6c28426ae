"""A folder for onnxruntime-genai, and whether it runs there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nas._scratch import sibling
from nas.backends.onnx._gate import logits_before
from nas.backends.onnxruntime import DENORMALS
from nas.errors import CapabilityError, PassError
from nas.ir import DecoderShape

if TYPE_CHECKING:
    from torch import Tensor

    from nas.chain import DecoderChain

_SCRIPT = Path(__file__).with_name("_genai_run.py")
_PATIENCE_S = 600.0
_NOT_LOADED = 3
"""The exit code of a process that could not import the runtime."""


def genai_is_here() -> bool:
    """Whether the runtime is installed."""
    return importlib.util.find_spec("onnxruntime_genai") is not None


def check_genai(
    folder: Path, chain: DecoderChain, ids: Tensor, *, greedy_tokens: int, tolerance: float
) -> int:
    """Continue `ids` [tokens] by onnxruntime-genai, to the end of the text or `greedy_tokens` long;
    each token must be torch's own choice after the same text, or within `tolerance` of it in
    logits. Returns how many were only that.

    Runs in a process of its own, which must not take a finished run with it. Raises CapabilityError
    where the runtime is missing or does not load there, PassError where it does not run the folder
    or writes other text.
    """
    found = _continued(folder, ids.tolist(), greedy_tokens)
    ends = list(chain.shape.eos_token_ids) or [0]
    if len(found) < greedy_tokens and (not found or found[-1] not in ends):
        found = [*found, ends[0]]  # what ends a text is not always given back
    written = torch.tensor(found)
    row = ids.cpu().long()[None]
    logits = logits_before(chain, row, torch.ones_like(row), written[None])[0]
    best, favourite = logits.max(-1)
    gap = best - logits.gather(-1, written[:, None])[:, 0]
    if found[-1] in ends:  # any of them will do
        gap[-1] = best[-1] - logits[-1, ends].max()
    wrong = (~(gap <= tolerance)).nonzero()
    if len(wrong):
        step = int(wrong[0])
        raise PassError(
            f"{folder}: token {step + 1} of {greedy_tokens} by onnxruntime-genai is "
            f"{int(written[step])}, torch writes {int(favourite[step])} ({float(gap[step]):.3g} "
            f"apart in logits, {tolerance:.3g} counts as a tie)"
        )
    return int((gap > 0).sum())


def _continued(folder: Path, prompt: Sequence[int], tokens: int) -> list[int]:
    command = [sys.executable, str(_SCRIPT), str(folder), str(tokens)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(list(prompt)),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise PassError(f"{folder}: onnxruntime-genai took over {_PATIENCE_S:.0f} s") from None
    try:
        found: list[int] | None = [int(token) for token in json.loads(done.stdout)]
    except (ValueError, TypeError):
        found = None
    if done.returncode or found is None or len(found) > tokens:
        last = (done.stderr.strip() or "no list of tokens came back").splitlines()[-1]
        if done.returncode == _NOT_LOADED:
            raise CapabilityError(
                f"the package onnxruntime_genai cannot be imported ({last}); "
                f"add it with: pip install -e '.[genai]'"
            )
        raise PassError(
            f"{folder}: onnxruntime-genai does not run it (exit code {done.returncode}): {last}"
        )
    return found


def write_genai_config(
    shape: DecoderShape, folder: Path, *, model_file: str = "model.onnx"
) -> Path:
    """Write `folder/genai_config.json`, which makes the folder loadable by onnxruntime-genai.

    The runtime finds the KV heads of each layer, and which layers have a cache, in the model's own
    inputs. The cache is not shared between past and present, since that needs the runtime's own
    attention operator. A tokenizer must be saved into the folder beside it.
    """
    path = folder / "genai_config.json"
    temporary = sibling(path)
    folder.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(genai_config(shape, model_file), indent=2) + "\n", "utf-8")
    os.replace(temporary, path)
    return path


def genai_config(shape: DecoderShape, model_file: str) -> dict[str, Any]:
    """The configuration as data. Its `type` names any decoder that takes no position ids."""
    ends = list(shape.eos_token_ids) or [0]
    model = {
        "type": "llama",
        "bos_token_id": ends[0] if shape.bos_token_id is None else shape.bos_token_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": ends[0],
        "context_length": shape.max_positions,
        "vocab_size": shape.vocab_size,
        "decoder": {
            "filename": model_file,
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": [], **DENORMALS},
            "hidden_size": shape.hidden_size,
            "head_size": shape.head_dim,
            "num_attention_heads": shape.query_heads,
            "num_key_value_heads": shape.kv_heads,
            "num_hidden_layers": shape.layers,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    }
    return {"model": model, "search": _greedy_search(shape)}


def _greedy_search(shape: DecoderShape) -> dict[str, Any]:
    return {
        "do_sample": False,
        "num_beams": 1,
        "max_length": shape.max_positions,
        "past_present_share_buffer": False,
    }
