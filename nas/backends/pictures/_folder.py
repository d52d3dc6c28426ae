"""A classifier as a folder: safetensors, what it is made of as JSON, and the code that runs it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nas.backends.pictures._layers import (
    ConvLayer,
    Padded,
    Residual,
    plain_blocks,
    plain_stem,
)
from nas.chain import ConvChain, normalised
from nas.errors import PassError

_CODE = Path(__file__).parent / "remote" / "student.py"
_CARD = """# {name}

A student of a {family} with {layers} blocks, made by nas: each block was chosen under the budgets
of its target, then the whole was distilled. {parameters:.2f} M parameters, float32, batch norms
folded.

```python
from student import load  # student.py beside this file; it needs torch and safetensors

model = load("path/to/this/folder")
logits = model(model.normalised(pictures))  # uint8 [batch, 3, {side}, {side}]
```

`config.json` lists the convolutions of every block; `model.onnx`, where it was exported, takes
`pixel_values` that are normalised by the mean and std given there.
"""


def export_folder(chain: ConvChain, folder: Path, *, name: str) -> None:
    """Write model.safetensors, config.json, student.py and README.md into `folder`.

    Raises PassError when the disk refuses.
    """
    shape = chain.shape
    blocks = list(plain_blocks(chain))
    stem = plain_stem(chain.stem)
    convs = [stem, *(conv for block in blocks for conv in _convs(block))]
    weights = {f"{conv.name}.weight": conv.weight for conv in convs}
    weights |= {f"{conv.name}.bias": conv.bias for conv in convs if conv.bias is not None}
    weights |= {"head.weight": chain.head.weight[:, :-1], "head.bias": chain.head.weight[:, -1]}
    config = {
        "format": "nas-residual-1",
        "name": name,
        "image_side": shape.image_side,
        "image_mean": shape.image_mean,
        "image_std": shape.image_std,
        "stem": {**_conv_config(stem), "pools": shape.stem_kernel != 3},
        "blocks": [_block_config(block) for block in blocks],
        "channels": shape.stages[-1].channels,
        "classes": shape.classes,
    }
    total = sum(w.numel() for w in weights.values())
    card = _CARD.format(
        name=name,
        family=shape.family,
        layers=shape.layers,
        parameters=total / 1e6,
        side=shape.image_side,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plain = {n: w.detach().float().cpu().contiguous().clone() for n, w in weights.items()}
        save_file(plain, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")
        shutil.copyfile(_CODE, folder / "student.py")
    except OSError as error:
        raise PassError(f"{folder}: the student could not be written: {error}") from error


def check_folder(folder: Path, chain: ConvChain, pictures: Tensor, *, tolerance: float) -> float:
    """Largest difference of the logits of the folder's own code from the chain's, on pictures uint8
    [batch, 3, side, side]. Raises PassError, with the difference, above `tolerance`."""
    spec = importlib.util.spec_from_file_location("nas_student", folder / "student.py")
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    with torch.no_grad():
        said = code.load(folder)(normalised(pictures.cpu(), chain.shape))
        wanted = chain(pictures.to(chain.device)).float().cpu()
    difference = float((said - wanted).abs().max())
    if not difference <= tolerance:  # so that NaN fails too
        raise PassError(
            f"{folder}: logits differ by up to {difference:.3g}, {tolerance:.3g} is allowed; the "
            f"folder does not hold this network"
        )
    return difference


def _convs(block: Residual) -> list[ConvLayer]:
    shortcut = [block.shortcut] if isinstance(block.shortcut, ConvLayer) else []
    return [*block.branch, *shortcut]


def _block_config(block: Residual) -> dict[str, Any]:
    shortcut: dict[str, Any] | None = None
    if isinstance(block.shortcut, ConvLayer):
        shortcut = _conv_config(block.shortcut)
    elif isinstance(block.shortcut, Padded):
        padded = block.shortcut
        shortcut = {"stride": padded.stride, "before": padded.before, "after": padded.after}
    branch = [_conv_config(conv) for conv in block.branch]
    return {"name": block.name, "branch": branch, "shortcut": shortcut}


def _conv_config(conv: ConvLayer) -> dict[str, Any]:
    outputs, inputs, kernel, _ = conv.weight.shape
    return {
        "name": conv.name,
        "inputs": inputs * conv.groups,
        "outputs": outputs,
        "kernel": kernel,
        "stride": conv.stride,
        "groups": conv.groups,
        "bias": conv.bias is not None,
        "relu": conv.relu,
    }
