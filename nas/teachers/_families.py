"""The supported families by their `model_type`."""

from __future__ import annotations

from nas.errors import CapabilityError
from nas.teachers._base import Family
from nas.teachers._encoders import BertFamily, DistilBertFamily
from nas.teachers._llama import LlamaFamily
from nas.teachers._mistral import MistralFamily
from nas.teachers._qwen2 import Qwen2Family
from nas.teachers._qwen3 import Qwen3Family
from nas.teachers._vit import DeitFamily, VitFamily

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        LlamaFamily(),
        MistralFamily(),
        Qwen2Family(),
        Qwen3Family(),
        BertFamily(),
        DistilBertFamily(),
        VitFamily(),
        DeitFamily(),
    )
}


def family_of(model_type: str, where: str) -> Family:
    """The adapter of `model_type`; raises CapabilityError that lists those there are."""
    if model_type not in FAMILIES:
        raise CapabilityError(
            f"{where}: the architecture {model_type!r} is not supported; "
            f"choose a teacher of one of: {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]
