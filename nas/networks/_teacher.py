"""The teacher of a search: a trained network from a file, or an untrained one by name."""

from __future__ import annotations

from pathlib import Path

from nas._quiet import quiet
from nas.errors import ArtifactError, ConfigError
from nas.networks._base import ImageNetwork
from nas.networks._bert import BertEncoder
from nas.networks._cifar_resnet import resnet_from_key, resnet_from_state

_UNTRAINED = "cifar_resnet:"


def is_trained(source: str) -> bool:
    """Whether `source` names weights, not a fresh network."""
    return not source.startswith(_UNTRAINED)


def load_image_teacher(source: str, *, classes: int = 10, seed: int = 0) -> ImageNetwork:
    """A `.safetensors` file of a CIFAR ResNet, or `cifar_resnet:9-9-9` for a fresh one.

    In evaluation mode. `classes` and `seed` are used for a fresh network only. Raises ConfigError
    for a source that does not exist, ArtifactError for a file of something else.
    """
    if not is_trained(source):
        return resnet_from_key(source.removeprefix(_UNTRAINED), classes).build(seed).eval()
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            f"--teacher {source}: no such file; give a .safetensors file of a CIFAR ResNet, or "
            f"{_UNTRAINED}9-9-9 for an untrained one"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path}: no safetensors file, or a torn one: {error}") from error
    return resnet_from_state(state, str(path))


def load_encoder_teacher(source: str) -> BertEncoder:
    """A BERT in a folder, as transformers saves it; nothing is downloaded.

    In evaluation mode. Raises ConfigError for a folder that is not there or holds none.
    """
    if not (Path(source) / "config.json").is_file():
        raise ConfigError(f"--teacher {source}: give a folder that holds a BERT (config.json)")
    from transformers import BertModel

    try:
        with quiet():
            model = BertModel.from_pretrained(
                source,
                add_pooling_layer=False,
                local_files_only=True,
                use_safetensors=True,
                attn_implementation="eager",
            )
    except (OSError, ValueError) as error:
        raise ConfigError(f"--teacher {source}: not a BERT in safetensors: {error}") from error
    return BertEncoder(model.eval())
