"""Compile a teacher that does not fit: does memory stay flat, and time linear, as depth grows?

    python benchmarks/streaming.py [--depths 4 8 16 32] [--limit-mib 1300] [--folder FOLDER]

Random float32 teachers, one shard of safetensors a slot (reading from a shard maps all of it), the
smallest of which already exceeds what the process may take (RLIMIT_DATA, which counts what is
allocated and what is mapped to be written to). Each is built and scored in a process of its own,
from its shards; one that is told to hold its weights ends for want of memory. Narrower
feed-forwards are left out of the space: their Gram matrix in float64 does not grow with depth, but
would be most of the peak. Peaks of anonymous memory are sampled every 10 ms; those of all resident
memory are the system's own and count mapped files, which it may drop at any time. Exits with 1
where the peaks differ by more than a tenth, where time a layer grows or falls by more than a
quarter, or where a streamed run differs from one without a limit in a byte.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_HIDDEN, _FFN, _HEADS, _KV_HEADS, _VOCAB = 2048, 12288, 16, 16, 264
_MIB = 2**20
_SPACE = """
attention:
  kv_heads: [8]
  linear: true
  skip: true
ffn:
  linear: true
  skip: true
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--limit-mib", type=int, default=1300)
    parser.add_argument(
        "--folder", type=Path, help="where teachers and runs are made, then removed"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(Path(given.child[0]), json.loads(given.child[1]), int(given.child[2]))
        return 0
    with tempfile.TemporaryDirectory(prefix="nas-streaming-", dir=given.folder) as folder:
        return _report(Path(folder), given.depths, given.limit_mib)


def _report(folder: Path, depths: list[int], limit_mib: int) -> int:
    (folder / "space.yaml").write_text(_SPACE, encoding="utf-8")
    rows, same, held = [], None, None
    print("layers  weights MiB  limit MiB  peak anonymous MiB  peak resident MiB  build s  score s")
    for depth in depths:
        teacher = folder / f"teacher-{depth}"
        weights_mib = _save_teacher(teacher, depth)
        row = _measured(folder, f"run-{depth}", teacher, True, limit_mib)
        if "error" in row:
            print(f"{depth:>6}  {weights_mib:>11.0f}  {limit_mib:>9}  {row['error']}")
            return 1
        rows.append(row | {"layers": depth})
        print(
            f"{depth:>6}  {weights_mib:>11.0f}  {limit_mib:>9}  {row['anonymous_mib']:>18.0f}  "
            f"{row['resident_mib']:>17.0f}  {row['build_s']:>7.1f}  {row['score_s']:>7.1f}",
            flush=True,
        )
        if depth == depths[min(1, len(depths) - 1)]:
            held = _measured(folder, "held", teacher, False, limit_mib)
        if depth == depths[0]:
            whole = _measured(folder, "whole", teacher, False, None)
            same = whole.get("digests") == row["digests"]
        shutil.rmtree(teacher)
        shutil.rmtree(folder / f"run-{depth}")
    return _judge(rows, held or {}, same)


def _judge(rows: list[dict[str, Any]], held: dict[str, Any], same: bool | None) -> int:
    peaks = [row["anonymous_mib"] for row in rows]
    paces = [(row["build_s"] + row["score_s"]) / row["layers"] for row in rows]
    spread, drift = max(peaks) / min(peaks) - 1, max(paces) / min(paces) - 1
    print(f"peaks of anonymous memory differ by {spread:.1%}")
    print(f"seconds a layer: {', '.join(f'{p:.2f}' for p in paces)} (they differ by {drift:.0%})")
    print(f"weights held at the second depth, same limit: {held.get('error', 'it fits')}")
    print(f"bytes of the library and of the scores as without streaming: {same}")
    return 0 if spread <= 0.1 and drift <= 0.25 and same and "error" in held else 1


def _measured(
    folder: Path, name: str, teacher: Path, stream: bool | str, limit_mib: int | None
) -> dict[str, Any]:
    """What the child tells; `error` where it ended otherwise."""
    settings = {
        "name": "streaming",
        "teacher": {"source": str(teacher), "stream": stream},
        "data": {"sequence_length": 64, "score_sequences": 4, "train_tokens": 2048},
        "space": str(folder / "space.yaml"),
        "target": {"hardware": "rtx4090", "meter": "roofline"},
        "budgets": {"speedup": 1.1},
        "baselines": [],  # one of narrower feed-forwards would bring back their Gram matrix
        "build": {"tokens": 1024, "epochs": 1},
        "score": {"method": "one_backward", "draws": 2},
    }
    child = [str(folder / name), json.dumps(settings), str(limit_mib or 0)]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *child], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1][:100] if lines else f"ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _child(root: Path, settings: dict[str, Any], limit_mib: int) -> None:
    import torch

    from nas.compiler import compile_run
    from nas.config import validate_config
    from nas.run import RunDirectory, file_digest

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if limit_mib:
        limit = limit_mib * _MIB
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    peak, over = [0.0, 0.0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(peak, over), daemon=True)
    sampler.start()
    run = RunDirectory.create(root)
    outcome = compile_run(validate_config(settings, "benchmark"), run, stop="score")
    over.set()
    sampler.join()
    made = [*root.glob("library/*/*/*.safetensors"), *root.glob("scores/*.parquet")]
    passes = [event for event in run.events() if event["event"] == "pass"]
    result = {
        "anonymous_mib": peak[0],
        "data_mib": peak[1],
        "resident_mib": max(event["peak_memory_mib"] for event in passes),
        "build_s": outcome.seconds["build"],
        "score_s": outcome.seconds["score"],
        "digests": {str(p.relative_to(root)): file_digest(p) for p in sorted(made)},
    }
    print(json.dumps(result))


def _sample(peak: list[float], over: threading.Event) -> None:
    status = Path("/proc/self/status")
    while not over.wait(0.01):
        text = status.read_text(encoding="ascii")
        for i, name in enumerate(("RssAnon:", "VmData:")):
            peak[i] = max(peak[i], int(text.split(name)[1].split()[0]) / 1024)


def _save_teacher(folder: Path, layers: int) -> float:
    """A random Llama of `layers`, a shard a slot; MiB of its weights."""
    import torch
    from safetensors.torch import save_file

    from tests.models import tiny_tokenizer

    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": _HIDDEN,
        "intermediate_size": _FFN,
        "num_hidden_layers": layers,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "vocab_size": _VOCAB,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tiny_tokenizer().save_pretrained(str(folder))
    generator = torch.Generator().manual_seed(layers)
    kv = _HIDDEN * _KV_HEADS // _HEADS
    shapes = {
        "self_attn.q_proj": (_HIDDEN, _HIDDEN),
        "self_attn.k_proj": (kv, _HIDDEN),
        "self_attn.v_proj": (kv, _HIDDEN),
        "self_attn.o_proj": (_HIDDEN, _HIDDEN),
        "mlp.gate_proj": (_FFN, _HIDDEN),
        "mlp.up_proj": (_FFN, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _FFN),
    }
    parts = [[n for n in shapes if n.startswith(kind)] for kind in ("self_attn", "mlp")]
    index, size = {}, 0
    for shard in range(2 * layers + 1):
        if shard == 2 * layers:
            state = {
                "model.embed_tokens.weight": torch.randn(_VOCAB, _HIDDEN, generator=generator),
                "lm_head.weight": torch.randn(_VOCAB, _HIDDEN, generator=generator) / _HIDDEN**0.5,
                "model.norm.weight": torch.ones(_HIDDEN),
            }
        else:
            layer = f"model.layers.{shard // 2}"
            state = {
                f"{layer}.{name}.weight": torch.randn(shapes[name], generator=generator)
                * (0.5 / shapes[name][1] ** 0.5)
                for name in parts[shard % 2]
            }
            norm = ("input_layernorm", "post_attention_layernorm")[shard % 2]
            state[f"{layer}.{norm}.weight"] = torch.ones(_HIDDEN)
        file = f"model-{shard + 1:05}-of-{2 * layers + 1:05}.safetensors"
        save_file(state, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(state, file)
        size += sum(tensor.nbytes for tensor in state.values())
        del state
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": index}), encoding="utf-8"
    )
    return size / _MIB


if __name__ == "__main__":
    started = time.perf_counter()
    code = main()
    if "--child" not in sys.argv:
        print(f"{time.perf_counter() - started:.0f} s in all")
    sys.exit(code)
