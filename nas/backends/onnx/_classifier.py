"""Networks over pictures as ONNX files, and whether a file is the network that was exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.backends.onnx._convolutional import compose_residual
from nas.backends.onnx._export import OnnxArtifact
from nas.backends.onnx._files import save_model
from nas.backends.onnx._library import DEFAULT_OPSET
from nas.backends.onnx._rounding import limit_of, rounds
from nas.backends.onnx._template import require_dtype
from nas.backends.onnx._vision import compose_vision
from nas.chain import ConvChain, PictureChain, normalised
from nas.errors import PassError


def export_classifier(
    chain: PictureChain, folder: Path, *, dtype: str = "float32", opset: int = DEFAULT_OPSET
) -> OnnxArtifact:
    """Write `folder/model.onnx` and `folder/model.onnx.data`.

    Input: `pixel_values` [batch, 3, side, side], normalised as the teacher's. Output: `logits`
    [batch, classes], or without a classifier `embedding` [batch, width]. Raises ConfigError for an
    unknown dtype, CapabilityError where a package is missing, PassError when the file cannot be
    written.
    """
    require_dtype(dtype)
    if isinstance(chain, ConvChain):
        model, head_dim = compose_residual(chain, dtype, opset), 0
    else:
        model, head_dim = compose_vision(chain, dtype, opset), chain.shape.head_dim
    path = folder / "model.onnx"
    return OnnxArtifact(path, save_model(model, path), dtype, opset, head_dim, {})


def check_classifier(
    artifact: OnnxArtifact, chain: PictureChain, pictures: Tensor, *, tolerance: float = 1e-3
) -> float:
    """Largest difference of the logits from torch's, on pictures uint8 [batch, 3, side, side], all
    of them and the first alone; one by one where layers round their inputs. Raises PassError, with
    the difference, above `classifier_limit`."""
    from nas.backends.onnxruntime import OnnxClassifier

    network, difference = OnnxClassifier(artifact.path), 0.0
    limit = classifier_limit(chain, pictures, tolerance)
    for batch in _batches(chain, pictures):
        said = torch.from_numpy(network.run(batch.numpy()).astype(np.float32))
        difference = max(difference, float((said - _answers(chain, batch)).abs().max()))
    if not difference <= limit:  # so that NaN fails too
        raise PassError(
            f"{artifact.path}: logits differ from torch's by up to {difference:.3g}, "
            f"{limit:.3g} is allowed; the file does not compute this network"
        )
    return difference


def classifier_limit(chain: PictureChain, pictures: Tensor, tolerance: float) -> float:
    """What a file may differ by: `tolerance`, or what rounding changes."""
    return limit_of(chain, _batches(chain, pictures), _answers, tolerance)


@torch.no_grad()
def _answers(chain: PictureChain, batch: Tensor) -> Tensor:
    """Logits or embeddings of normalised pictures."""
    answers: Tensor = chain(batch.to(chain.device))
    return answers.float().cpu()


def _batches(chain: PictureChain, pictures: Tensor) -> Sequence[Tensor]:
    values = normalised(pictures.cpu(), chain.shape)
    return values.split(1) if rounds(chain) else (values, values[:1])
