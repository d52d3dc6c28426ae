"""The teacher: where its weights are, and how a teacher of pictures takes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from nas.config._section import Section

Channels = tuple[float, float, float]


class ImageConfig(Section):
    """How a teacher of pictures takes them, where neither its weights nor the files beside them
    tell: the `side` in pixels (of a ResNet by default 32 where the stem is 3 wide, else 224), and
    `mean` and `std` of each channel, from 0 to 1, by which they are normalised."""

    side: PositiveInt | None = None
    mean: Channels = (0.485, 0.456, 0.406)
    std: Annotated[Channels, Field(min_length=3)] = (0.229, 0.224, 0.225)


class TeacherConfig(Section):
    """`source`: a Hugging Face folder, a hub id, a GGUF file, the .safetensors file of a ResNet or
    of timm's ViT, or `package:NAME/FILE` for a file that an installed Python package carries.
    `tokenizer` overrides where the tokenizer is read; `image`: of a teacher of pictures.

    `stream`: whether the passes read a slot's weights when they come to it and hold no others. It
    changes no result; `auto` does so where the weights exceed the memory at hand."""

    source: str = Field(min_length=1)
    revision: str | None = None
    tokenizer: str | None = None
    image: ImageConfig | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    stream: Literal["auto"] | bool = "auto"
    trust_remote_code: bool = False
