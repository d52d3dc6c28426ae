"""Reading an exported folder back as a chain. No code of the folder is run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas._documents import load_json
from nas.backends.huggingface._config import from_config
from nas.backends.huggingface._names import exported_name
from nas.chain import DecoderChain, rotary_embedding
from nas.errors import ArtifactError
from nas.ir import Architecture, DecoderShape

_INDEX = "model.safetensors.index.json"


def load_student(
    folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> DecoderChain:
    """The student of an exported folder, in eval mode and without gradients.

    `dtype` None keeps the stored number format. Raises ArtifactError where the folder is not an
    exported student, is incomplete or does not fit its configuration.
    """
    shape, architecture = _read_config(folder / "config.json")
    with torch.device("meta"):
        chain = DecoderChain(shape, architecture)
    stored = _read_weights(folder)
    state: dict[str, Tensor] = {}
    for name, expected in chain.state_dict().items():
        if name == "head.weight" and shape.tied_embeddings:
            state[name] = state["embed.weight"]
            continue
        tensor = _take(stored, exported_name(name), expected.shape, folder)
        state[name] = tensor.to(device=device, dtype=dtype or tensor.dtype)
    if stored:
        raise ArtifactError(f"{folder}: {min(stored)} has no place in config.json; export it again")
    chain.load_state_dict(state, assign=True)
    if shape.tied_embeddings:
        chain.head.weight = chain.embed.weight
    chain.rotary = rotary_embedding(shape).to(device)
    return chain.eval().requires_grad_(False)


def _take(stored: dict[str, Tensor], name: str, shape: torch.Size, folder: Path) -> Tensor:
    tensor = stored.pop(name, None)
    if tensor is None:
        raise ArtifactError(f"{folder}: the weights lack {name}; export it again")
    if tensor.shape != shape:
        raise ArtifactError(
            f"{folder}: {name} has shape {list(tensor.shape)}, config.json says {list(shape)}; "
            "export it again"
        )
    return tensor


def _read_config(path: Path) -> tuple[DecoderShape, Architecture]:
    from nas.backends.huggingface.remote.configuration_nas import NasConfig

    try:
        data: dict[str, Any] = dict(load_json(path.read_text(encoding="utf-8")))
        if data["model_type"] != NasConfig.model_type:
            raise ValueError(f"model_type is {data['model_type']!r}, not {NasConfig.model_type!r}")
        # fills in the defaults that save_pretrained leaves out
        return from_config(NasConfig.from_dict(data).to_dict())
    except FileNotFoundError:
        raise ArtifactError(f"{path.parent} is not an exported student: no config.json") from None
    # transformers raises whatever a value of the wrong kind leads to
    except Exception as error:
        raise ArtifactError(f"{path}: not that of an exported student: {error!r}") from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All stored tensors by name."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    path = folder / _INDEX
    try:
        names = {"model.safetensors"}
        if path.is_file():
            names = set(load_json(path.read_text(encoding="utf-8"))["weight_map"].values())
            _refuse_other_folders(names)
        for path in (folder / name for name in sorted(names)):
            weights |= load_file(path)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: missing or torn ({error}); export it again") from error
    return weights


def _refuse_other_folders(names: Iterable[object]) -> None:
    """An index may name files beside it, and no others."""
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name or name == "..":
            raise ValueError(f"{name!r} is no file beside the index")
