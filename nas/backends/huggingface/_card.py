"""The README.md of an exported student."""

from __future__ import annotations

from nas.chain import Chain, DecoderChain, EncoderChain, VisionChain

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
`linear`: one linear layer; `skip`: nothing. `-int8`: weights of eight bits in ONNX Runtime;
`-int8_dynamic`: activations too; `-float16`: products of half precision there, and in engines. Here
the weights of such blocks are rounded so and all is computed in floating point, so that logits
differ by what rounding activations changes.

| layer | attention | feed-forward |
| --- | --- | --- |
{rows}
"""

_ENCODER_CARD = """---
{use}tags: [nas, distillation]
---

# {name}

A student of a {family} teacher with {layers} layers, made by nas: each attention and feed-forward
block was chosen under the budgets of its target, then the whole was distilled. {parameters:.1f} M
parameters, {dtype}.

```python
{code}```

The code that `trust_remote_code` allows is in `modeling_nas_encoder.py` and
`configuration_nas_encoder.py` beside this file; it needs torch and transformers >= 5.

## Blocks

`teacher`: as in the teacher ({heads} heads, feed-forward width {ffn_width}); `kvN`: all query heads
on N key-value heads; `hNkvN`: N heads; `wN`: feed-forward width N; `linear`: one linear layer;
`skip`: the norm alone. `-int8`: weights of eight bits in ONNX Runtime; `-int8_dynamic`: activations
too; `-float16`: products of half precision. Here the weights of such blocks are rounded so and all
is computed in floating point.

| layer | attention | feed-forward |
| --- | --- | --- |
{rows}
"""


_MASKED_USE = """library_name: transformers
pipeline_tag: fill-mask
"""
_EMBEDDING_USE = """library_name: sentence-transformers
pipeline_tag: sentence-similarity
"""
_MASKED_CODE = """from transformers import pipeline

tell = pipeline("fill-mask", "path/to/this/folder", trust_remote_code=True)
print(tell(f"A {tell.tokenizer.mask_token} text."))
"""
_EMBEDDING_CODE = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder", trust_remote_code=True)
print(model.encode(["A text.", "Another."]).shape)
"""


def encoder_card(chain: EncoderChain, name: str, dtype: str) -> str:
    """The same for an encoder."""
    shape = chain.shape
    masked = shape.masked_head
    return _ENCODER_CARD.format(
        use=_MASKED_USE if masked else _EMBEDDING_USE,
        code=_MASKED_CODE if masked else _EMBEDDING_CODE,
        name=name,
        family=shape.family,
        layers=shape.layers,
        parameters=_millions(chain),
        dtype=dtype,
        heads=shape.query_heads,
        ffn_width=shape.ffn_width,
        rows=_rows(chain),
    )


_VISION_CARD = """---
library_name: transformers
pipeline_tag: {task}
tags: [nas, distillation]
---

# {name}

A student of a {family} teacher with {layers} layers over pictures of {side} x {side}, made by nas:
each attention and feed-forward block was chosen under the budgets of its target, then the whole was
distilled. {parameters:.1f} M parameters, {dtype}.

```python
from transformers import AutoImageProcessor, {auto}

folder = "path/to/this/folder"
processor = AutoImageProcessor.from_pretrained(folder)
model = {auto}.from_pretrained(folder{trust})
inputs = processor(picture, return_tensors="pt")
print(model(**inputs).{answer})
```

{code}

## Blocks

`teacher`: as in the teacher ({heads} heads, feed-forward width {ffn_width}); `kvN`: all query heads
on N key-value heads; `hNkvN`: N heads; `wN`: feed-forward width N; `linear`: one linear layer;
`skip`: nothing.

| layer | attention | feed-forward |
| --- | --- | --- |
{rows}
"""
_VISION_CODE = """The code that `trust_remote_code` allows is in `modeling_nas_vision.py` and
`configuration_nas_vision.py` beside this file; it needs torch and transformers >= 5."""
_PLAIN_CODE = (
    "Its layers are alike, so that it is a plain {kind} of transformers, without own code."
)


def vision_card(chain: VisionChain, name: str, dtype: str, *, plain: bool) -> str:
    """The same for a transformer over pictures; `plain`: one that needs no code."""
    shape = chain.shape
    kind = "ViT" if shape.prefix_tokens == 1 else "DeiT"
    reads = "last_hidden_state[:, 0]" if plain else "pooler_output"
    return _VISION_CARD.format(
        task="image-classification" if shape.classes else "image-feature-extraction",
        name=name,
        family=shape.family,
        layers=shape.layers,
        side=shape.image_side,
        parameters=_millions(chain),
        dtype=dtype,
        auto="AutoModelForImageClassification" if shape.classes else "AutoModel",
        trust="" if plain else ", trust_remote_code=True",
        answer="logits.argmax(-1)" if shape.classes else reads,
        code=_PLAIN_CODE.format(kind=kind) if plain else _VISION_CODE,
        heads=shape.query_heads,
        ffn_width=shape.ffn_width,
        rows=_rows(chain),
    )


def model_card(chain: DecoderChain, name: str, dtype: str) -> str:
    """Text with the student's blocks and how to load it."""
    shape = chain.shape
    return _CARD.format(
        name=name,
        family=shape.family,
        layers=shape.layers,
        parameters=_millions(chain),
        dtype=dtype,
        kv_heads=shape.kv_heads,
        ffn_width=shape.ffn_width,
        rows=_rows(chain),
    )


def _millions(chain: Chain) -> float:
    return sum(parameter.numel() for parameter in chain.parameters()) / 1e6


def _rows(chain: Chain) -> str:
    """A table row a layer."""
    labels = [spec.label for _, spec in chain.architecture.items(chain.shape)]
    pairs = enumerate(zip(labels[::2], labels[1::2], strict=True))
    return "\n".join(f"| {layer} | {first} | {second} |" for layer, (first, second) in pairs)
