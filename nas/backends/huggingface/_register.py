"""The exported classes inside nas itself, without remote code."""

from __future__ import annotations


def register_auto_classes() -> None:
    """Make transformers' Auto classes load exported folders with nas's own copy of the code.

    Models loaded so take their code files along on `save_pretrained`. May be called again.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from nas.backends.huggingface.remote.configuration_nas import NasConfig
    from nas.backends.huggingface.remote.modeling_nas import NasForCausalLM, NasModel

    AutoConfig.register(NasConfig.model_type, NasConfig, exist_ok=True)
    AutoModel.register(NasConfig, NasModel, exist_ok=True)
    AutoModelForCausalLM.register(NasConfig, NasForCausalLM, exist_ok=True)
    NasConfig.register_for_auto_class("AutoConfig")
    NasModel.register_for_auto_class("AutoModel")
    NasForCausalLM.register_for_auto_class("AutoModelForCausalLM")
