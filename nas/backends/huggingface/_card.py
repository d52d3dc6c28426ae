"""The README.md of an exported student."""

from __future__ import annotations

from nas.chain import DecoderChain

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [nas, distillation]
---

# {name}

A student of a {family} teacher with {layers} layers, made by nas: each attention and feed-forward
block was chosen under the budgets of its target, then the whole was distilled. {parameters:.1f} M
parameters, {dtype}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=32)[0]))
```

The code that `trust_remote_code` allows is in `modeling_nas.py` and `configuration_nas.py` beside
this file; it needs torch and transformers >= 5.15.

## Blocks

`teacher`: as in the teacher ({kv_heads} KV heads, feed-forward width {ffn_width}); `kvN`: N KV
heads; `hMkvN`: M query heads on N KV heads; `wN`: feed-forward width N;
`linear`: one linear layer; `skip`: nothing.

| layer | attention | feed-forward |
| --- | --- | --- |
{rows}
"""


def model_card(chain: DecoderChain, name: str, dtype: str) -> str:
    """Text with the student's blocks and how to load it."""
    shape = chain.shape
    labels = [spec.label for _, spec in chain.architecture.items(shape)]
    pairs = enumerate(zip(labels[::2], labels[1::2], strict=True))
    return _CARD.format(
        name=name,
        family=shape.family,
        layers=shape.layers,
        parameters=sum(parameter.numel() for parameter in chain.parameters()) / 1e6,
        dtype=dtype,
        kv_heads=shape.kv_heads,
        ffn_width=shape.ffn_width,
        rows="\n".join(f"| {layer} | {first} | {second} |" for layer, (first, second) in pairs),
    )
