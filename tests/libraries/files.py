"""Synthetic libraries in the layouts that are read, with costs and losses of no real network."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

Data = dict[str, dict[str, dict[str, Any]]]


def puzzle_data(layers: int, variants: int, seed: int = 0) -> Data:
    """Cheaper variants lose more; two costs that do not quite agree, and text that is no figure."""
    source = random.Random(seed)
    data: Data = {}
    for layer in range(layers):
        slot = data[f"layer_{layer}"] = {}
        weight = 0.2 + source.random()
        for variant in range(variants):
            kept = 1 - variant / variants
            slot[f"v{variant}"] = {
                "stats": {
                    "memory_mib": round(1000 * kept * (0.9 + 0.2 * source.random()), 3),
                    "runtime_ms": round(600 * kept * (0.8 + 0.4 * source.random()), 3),
                    "kernel": "fused",
                },
                "metrics": {
                    "kl_div": round(weight * (1 - kept) ** 2 * (0.5 + source.random()), 6),
                },
            }
    return data


def write_json(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def write_csv(path: Path, data: Data) -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("layer", "variant", "stats.memory_mib", "runtime_ms", "kl_div"))
        for slot, variants in data.items():
            for variant, row in variants.items():
                stats = row["stats"]
                figures = (stats["memory_mib"], stats["runtime_ms"], row["metrics"]["kl_div"])
                writer.writerow((slot, variant, *figures))
    return path


def column(data: Data, path: str, slot: str, variant: str) -> float:
    group, name = path.split(".")
    return float(data[slot][variant][group][name])


def total(data: Data, path: str, choice: dict[str, str]) -> float:
    return math.fsum(column(data, path, slot, variant) for slot, variant in choice.items())


def heaviest(data: Data, path: str) -> float:
    return math.fsum(max(column(data, path, s, v) for v in data[s]) for s in data)


def best_by_hand(data: Data, **most: float) -> float | None:
    """The least sum of kl_div over all choices; limits are of `stats` columns."""
    losses = []
    for picked in itertools.product(*(data[slot] for slot in data)):
        choice = dict(zip(data, picked, strict=True))
        if all(total(data, f"stats.{c}", choice) <= limit for c, limit in most.items()):
            losses.append(total(data, "metrics.kl_div", choice))
    return min(losses, default=None)
