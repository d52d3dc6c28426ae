"""Teachers in a Hugging Face folder: config.json, safetensors, tokenizer files."""

from __future__ import annotations

from collections.abc import Set
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from nas._documents import brief, load_json
from nas._quiet import quiet
from nas.config import ImageConfig
from nas.errors import CapabilityError, ConfigError, NasError
from nas.ir import ChainShape, EncoderShape, VisionShape
from nas.ir.network import MOST_LAYERS
from nas.teachers._base import Family, Stored, TeacherSource
from nas.teachers._digest import digest_files
from nas.teachers._encoders import with_pooling
from nas.teachers._families import family_of
from nas.teachers._preprocessing import (
    PREPROCESSOR,
    class_names,
    read_preprocessing,
    with_image,
    with_preprocessor,
)
from nas.teachers._tokenizer import load_tokenizer, tokenizer_files

_READ_BESIDE = ("config.json", "modules.json", "1_Pooling/config.json", PREPROCESSOR)

_MOST = {"num_labels": 10**6}
"""transformers makes a list of names for them."""


class FolderSource(TeacherSource):
    """Weights come from safetensors only; no code of the folder is run to read them."""

    def __init__(
        self, folder: Path, trust_remote_code: bool = False, image: ImageConfig | None = None
    ) -> None:
        self.folder, self.image = folder, image
        self.trust_remote_code = trust_remote_code

    def shape(self) -> ChainShape:
        _, shape = self._described
        if isinstance(shape, VisionShape):
            described = with_preprocessor(shape, self.folder)
            return with_image(described, self.image, str(self.folder))
        return with_pooling(shape, self.folder) if isinstance(shape, EncoderShape) else shape

    def tensor_names(self) -> Set[str]:
        return self._files.keys()

    def foreign_name(self, name: str) -> str:
        family, _ = self._described
        spellings = family.foreign_names(name)
        return next((s for s in spellings if s in self._files), spellings[0])

    def read(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        shard = self._files[name]
        try:
            with safe_open(shard, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"{shard}: {brief(name)} cannot be read ({error}); fetch it again"
            ) from error
        return tensor

    def parameter(self, name: str, stored: Stored) -> Tensor:
        family, shape = self._described
        return family.parameter(name, stored, shape)

    def ignorable(self, name: str) -> bool:
        family, _ = self._described
        return family.ignorable(name)

    def tokenizer(self) -> Any:
        return load_tokenizer(str(self.folder), trust_remote_code=self.trust_remote_code)

    def preprocessing(self) -> dict[str, Any]:
        return read_preprocessing(self.folder)

    def labels(self) -> tuple[str, ...]:
        _, shape = self._described
        if not isinstance(shape, VisionShape):
            return ()
        return class_names(_read_json(self.folder / "config.json").get("id2label"), shape.classes)

    def digest(self) -> str:
        """Over the weights, and over what decides how they and the text are read."""
        named = (self.folder / name for name in _READ_BESIDE)
        beside = [path for path in named if path.is_file()]
        texts = tokenizer_files(self.folder, self.trust_remote_code)
        return digest_files({*self._files.values(), *beside, *texts})

    @cached_property
    def _described(self) -> tuple[Family, ChainShape]:
        return read_config(self.folder / "config.json")

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The shard of each tensor, by its stored name."""
        from safetensors import SafetensorError, safe_open

        shards = sorted(self.folder.glob("*.safetensors"))
        indexed = _indexed_shards(self.folder)
        if indexed:
            shards = [shard for shard in shards if shard.name in indexed]
            missing = sorted(indexed - {shard.name for shard in shards})
            if missing:
                raise ConfigError(f"{self.folder}: {missing[0]} is missing; fetch it again")
        if not shards:
            raise ConfigError(_no_weights(self.folder))
        files: dict[str, Path] = {}
        for shard in shards:
            try:
                with safe_open(shard, framework="pt") as file:
                    files.update(dict.fromkeys(file.keys(), shard))
            except (SafetensorError, OSError) as error:
                raise ConfigError(f"{shard}: torn ({error}); fetch it again") from error
        return files


def read_config(path: Path) -> tuple[Family, ChainShape]:
    """Family and shape of a transformers config.json; raises ConfigError, CapabilityError."""
    return _described(_read_json(path), str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = load_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent}: no config.json; teacher.source wants a Hugging Face model folder, "
            f"a hub id, a GGUF file or package:NAME/FILE"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object; fetch the teacher's config.json again")
    return data


def _described(data: dict[str, Any], where: str) -> tuple[Family, ChainShape]:
    import transformers

    family = family_of(str(data.get("model_type")), where)
    _refuse_absurd(data, where)
    kinds = data.get("architectures") or [family.model_classes[0]]
    if kinds not in [[name] for name in family.model_classes]:
        found = kinds[0] if isinstance(kinds, list) else kinds
        raise CapabilityError(
            f"{where}: {brief(found)} is not supported; choose a teacher that is a "
            f"{family.model_classes[0]}"
        )
    if data.get("quantization_config"):
        raise CapabilityError(
            f"{where}: the weights are quantised; choose the checkpoint in float16, bfloat16 or "
            f"float32, or a GGUF file"
        )
    try:
        with quiet():
            config = getattr(transformers, family.config_class).from_dict(data)
        return family, family.shape(config)
    except NasError:
        raise
    # transformers raises whatever a value of the wrong kind leads to
    except Exception as error:
        raise ConfigError(
            f"{where}: not a valid {family.model_type} configuration: {error}; fetch it again"
        ) from error


def _refuse_absurd(data: dict[str, Any], where: str) -> None:
    """transformers makes lists of as many entries as there are layers, or labels, before anyone
    looks at the number."""
    for key, value in data.items():
        limit = MOST_LAYERS if key.endswith("layers") else _MOST.get(key, 2**40)
        if isinstance(value, int) and not -limit <= value <= limit:
            raise ConfigError(f"{where}: {key} is {brief(value)}; fetch the file again")


def _indexed_shards(folder: Path) -> set[str]:
    """Shard names of the index file; empty where the folder has none."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    try:
        names = set(load_json(index.read_text(encoding="utf-8"))["weight_map"].values())
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a shard's name is no text")
        return names
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index}: not a safetensors index: {error!r}; fetch it again") from error


def _no_weights(folder: Path) -> str:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return (
            f"{folder}: only pickled weights (.bin), which nas never loads since they can run "
            f"code; choose a revision with .safetensors files or convert it with save_pretrained"
        )
    return f"{folder}: no .safetensors file; fetch the teacher's weights into this folder"
