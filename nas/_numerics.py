"""Which number format pays on the processor at hand."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def compute_dtype(device: str) -> torch.dtype:
    """bfloat16 where `device` multiplies it in hardware, else float32.

    CPU: AMX tiles or AVX-512 BF16; CUDA: native bfloat16; every other device: float32.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        able = torch.cpu.get_capabilities()
        fast = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
        return torch.bfloat16 if fast else torch.float32
    if kind == "cuda" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return torch.float32


def autocast(device: str) -> AbstractContextManager[object]:
    """Autocast to `compute_dtype(device)`, or a context that does nothing for float32."""
    dtype = compute_dtype(device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)
