"""A GGUF file in llama.cpp itself, through the package llama-cpp-python."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas._imports import require
from nas.backends.deci._vocabulary import Fields, sample_reads_alike
from nas.errors import PassError

if TYPE_CHECKING:
    from torch import Tensor

    from nas.chain import DecoderChain

_PACKAGE = "llama-cpp-python"


def llama_cpp_is_here() -> bool:
    """Whether llama.cpp's Python package is installed."""
    return importlib.util.find_spec("llama_cpp") is not None


class LlamaCpp:
    """A GGUF file that is open in llama.cpp, on the CPU, its cache in float32.

    Raises PassError where llama.cpp does not load the file."""

    def __init__(self, path: Path, tokens: int = 64, *, vocabulary_alone: bool = False) -> None:
        module = require("llama_cpp", package=_PACKAGE)
        settings: dict[str, Any] = {
            "n_ctx": tokens,
            "n_batch": tokens,
            "n_ubatch": tokens,
            "logits_all": True,
            "n_gpu_layers": 0,
            "type_k": module.GGML_TYPE_F32,
            "type_v": module.GGML_TYPE_F32,
            "vocab_only": vocabulary_alone,
            "verbose": False,
        }
        try:
            self._model = module.Llama(str(path), **settings)
        except (ValueError, RuntimeError, OSError) as error:
            raise PassError(f"{path}: llama.cpp does not load it: {error}") from error

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits [tokens, vocab] of a text."""
        self._model.reset()
        self._model.eval(list(ids))
        return np.array(self._model.scores[: len(ids)], np.float32)

    def greedy(self, ids: Sequence[int], tokens: int) -> list[int]:
        """The `tokens` most likely next ids, through its cache."""
        self._model.reset()
        text, waiting = list(ids), list(ids)
        for _ in range(tokens):
            self._model.eval(waiting)
            waiting = [int(self._model.scores[len(text) - 1].argmax())]
            text += waiting
        return text[len(ids) :]

    def read(self, text: bytes) -> list[int]:
        """Ids of a text, with the tokens that the file says are added at its ends."""
        # `add_bos` is llama.cpp's `add_special`: whether to do as the file says.
        return [int(i) for i in self._model.tokenize(text, add_bos=True, special=False)]

    def close(self) -> None:
        """Let go of the file and its memory."""
        self._model.close()


def check_gguf(
    path: Path, chain: DecoderChain, ids: Tensor, *, greedy_tokens: int, tolerance: float
) -> float:
    """Largest difference of llama.cpp's logits from torch's on `ids` [tokens].

    Raises PassError where that is above `tolerance`, or where a token that llama.cpp writes after
    the text is further from torch's first choice than that."""
    from nas.backends.onnx import logits_before

    row = ids.cpu().long()[None]
    opened = LlamaCpp(path, row.shape[1] + greedy_tokens)
    try:
        found = torch.from_numpy(opened.logits(row[0].tolist()))
        written = torch.tensor(opened.greedy(row[0].tolist(), greedy_tokens))
    finally:
        opened.close()
    with torch.no_grad():
        wanted = chain(row.to(chain.device))[0].float().cpu()
    difference = float((found - wanted).abs().max())
    if not difference <= tolerance:  # so that NaN fails too
        raise PassError(
            f"{path}: llama.cpp's logits differ from torch's by up to {difference:.3g}, "
            f"{tolerance:.3g} is allowed; the file does not hold this network"
        )
    if greedy_tokens:
        logits = logits_before(chain, row, torch.ones_like(row), written[None])[0]
        gap = logits.max(-1).values - logits.gather(-1, written[:, None])[:, 0]
        if not bool((gap <= tolerance).all()):
            step = int((~(gap <= tolerance)).nonzero()[0])
            raise PassError(
                f"{path}: token {step + 1} of {greedy_tokens} by llama.cpp is "
                f"{int(written[step])}, torch writes {int(logits[step].argmax())}"
            )
    return difference


def reads_alike(tokenizer: Any, fields: Fields) -> bool:
    """Whether llama.cpp, given these keys, reads text as the tokenizer does."""
    gguf = require("gguf", extra="gguf")
    with tempfile.TemporaryDirectory(prefix="nas-gguf-") as folder:
        path = Path(folder) / "vocabulary.gguf"
        writer = gguf.GGUFWriter(str(path), "deci")
        writer.add_block_count(1)
        writer.add_embedding_length(32)
        writer.add_context_length(64)
        writer.add_head_count(1)
        writer.add_feed_forward_length(32)
        writer.add_layer_norm_rms_eps(1e-5)
        for key, (value, kind, inner) in fields.items():
            writer.add_key_value(key, value, kind, inner)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        try:
            opened = LlamaCpp(path, vocabulary_alone=True)
        except PassError:  # a way to split that this build does not know
            return False
        try:
            return sample_reads_alike(tokenizer, opened.read)
        finally:
            opened.close()
