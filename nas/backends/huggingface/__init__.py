"""Students as Hugging Face folders: safetensors, tokenizer, configuration and their own code."""

from nas.backends.huggingface._artifact import HuggingFaceArtifact, HuggingFaceReport
from nas.backends.huggingface._bert import check_bert_folder, export_bert_folder
from nas.backends.huggingface._check import check_huggingface
from nas.backends.huggingface._encoder import check_encoder_folder, export_encoder_folder
from nas.backends.huggingface._export import export_huggingface, exported_state
from nas.backends.huggingface._folder import replaced_folder
from nas.backends.huggingface._load import load_student
from nas.backends.huggingface._model import transformers_model
from nas.backends.huggingface._register import register_auto_classes
from nas.backends.huggingface._vision import check_vision_folder, export_vision_folder

__all__ = [
    "HuggingFaceArtifact",
    "HuggingFaceReport",
    "check_bert_folder",
    "check_encoder_folder",
    "check_huggingface",
    "check_vision_folder",
    "export_bert_folder",
    "export_encoder_folder",
    "export_huggingface",
    "export_vision_folder",
    "exported_state",
    "load_student",
    "register_auto_classes",
    "replaced_folder",
    "transformers_model",
]
