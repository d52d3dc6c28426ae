"""ONNX: decoders with a key-value cache, encoders, classifiers of pictures, and their parts for
measurement.

    artifact = export_onnx(chain, folder)                     # model.onnx and model.onnx.data
    check_onnx(artifact, chain, ids, greedy_tokens=64)        # raises PassError with the difference
    write_genai_config(chain.shape, folder)                   # for onnxruntime-genai
    check_encoder(export_encoder(chain, folder), chain, ids)  # the same for an encoder
    save_model(block_stack(shape, "ffn", spec, 4), path)      # one block four times, to be timed

Only operators of the ONNX standard are used, so that other runtimes and TensorRT read the files.
"""

from nas.backends.onnx._classifier import (
    check_classifier,
    classifier_limit,
    export_classifier,
)
from nas.backends.onnx._encoder import export_encoder
from nas.backends.onnx._encoder_gate import EncoderDifference, check_encoder, encoder_limit
from nas.backends.onnx._export import OnnxArtifact, export_onnx
from nas.backends.onnx._files import save_model, save_structure
from nas.backends.onnx._gate import GateReport, check_onnx, logits_before
from nas.backends.onnx._genai import check_genai, genai_is_here, write_genai_config
from nas.backends.onnx._slot_gate import SLOT_LIMIT, SlotReport, check_slots
from nas.backends.onnx._stack import block_stack, epilogue_model, prologue_model

__all__ = [
    "SLOT_LIMIT",
    "EncoderDifference",
    "GateReport",
    "OnnxArtifact",
    "SlotReport",
    "block_stack",
    "check_classifier",
    "check_encoder",
    "check_genai",
    "check_onnx",
    "check_slots",
    "classifier_limit",
    "encoder_limit",
    "epilogue_model",
    "export_classifier",
    "export_encoder",
    "export_onnx",
    "genai_is_here",
    "logits_before",
    "prologue_model",
    "save_model",
    "save_structure",
    "write_genai_config",
]
