"""ResNet-56 at a given speed-up, beside Torch-Pruning and the network that DisWOT would choose.

Runs `examples/resnet.yaml` on CIFAR-10 pictures. Torch-Pruning's student is cut until its measured
latency is that of ours, and trained for as many steps of as many pictures; DisWOT's winner among
the networks of S0 that have no more than half of the teacher's operations starts anew, with the
teacher and without. Accuracy is that of the ONNX files on the labelled test pictures, latencies are
taken in turns. The table goes into the README beside this file.
"""

from __future__ import annotations

import argparse
import copy
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._readme import install
from nas._imports import require
from nas.backends.onnx._quiet import quiet_export
from nas.backends.onnxruntime import OnnxClassifier
from nas.compiler import compile_run
from nas.config import load_config
from nas.console import Session
from nas.data import load_images
from nas.errors import NasError
from nas.meters import interleaved, settled
from nas.networks import CifarResNet, ImageNetwork, load_image_teacher, resnet_from_key
from nas.networks._cifar_resnet import BasicBlock
from nas.progress import Progress
from nas.report import Summary, load_summary
from nas.run import RunDirectory
from nas.search import Recipe, SearchRequest, distill, search

ROOT = Path(__file__).parent
ROUNDS = 15
SAME_LATENCY = 1.02
FINE_TUNING_RATE = 0.02


@dataclass(frozen=True)
class Judged:
    """An ONNX file on the test pictures."""

    ms: float
    accuracy: float
    params_m: float


def main() -> int:
    """Run the benchmark; the exit code is that of a `nas run`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder cifar10")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    options = parser.parse_args()
    names = ("resnet56.safetensors", "train.npz", "test.npz")
    files = {name: options.data / name for name in names}
    for path in files.values():
        if not path.is_file():
            print(f"{path}: no such file; the benchmark needs it", file=sys.stderr)
            return 2
    given = [
        f"teacher.source={files['resnet56.safetensors']}",
        f"data.sources=[{{kind: images, path: {files['train.npz']}}}]",
        f"evaluate.images=[{files['test.npz']}]",
        "baselines=[uniform_ffn]",
    ]
    progress = Session().progress
    try:
        config = load_config(ROOT / "../examples/resnet.yaml", [*given, *options.overrides])
        run = RunDirectory.create(options.output / "run")
        outcome = compile_run(config, run, progress)
        assert outcome.summary_path is not None
        summary = load_summary(outcome.summary_path)
        bench = Bench(options.output, files, summary, progress)
        bench.others()
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    table = "\n".join(lines(summary, bench.judged(), bench.notes))
    install("cifar", table)
    print(table)
    return 0


class Bench:
    """The other students, trained on the same pictures for the same number of steps."""

    def __init__(
        self, folder: Path, files: Mapping[str, Path], summary: Summary, progress: Progress
    ) -> None:
        self.folder, self.summary, self.progress = folder, summary, progress
        self.test, self.images = load_images(files["test.npz"]), load_images(files["train.npz"])
        self.files = files
        self.teacher = load_image_teacher(str(files["resnet56.safetensors"]))
        conditions = summary.target.conditions[0]
        self.batch, self.threads = conditions.batch, conditions.threads
        distilled = summary.student.distillation
        assert distilled is not None
        self.steps, self.pictures = distilled.steps, distilled.tokens // distilled.steps
        models = ["teacher", "student", *(b.name for b in summary.baselines)]
        self.paths = {name: folder / "run" / "onnx" / name / "model.onnx" for name in models}

    def others(self) -> None:
        """Train those whose file is not there yet: an interrupted benchmark goes on."""
        recipe = Recipe(self.steps, batch=self.pictures, learning_rate=FINE_TUNING_RATE)
        self._train("torch-pruning", self._pruned, recipe)
        fresh = {
            "DisWOT's winner, distilled": Recipe(
                self.steps, ("semantic", "relation"), batch=self.pictures
            ),
            "DisWOT's winner, labels alone": Recipe(
                self.steps, batch=self.pictures, labels_weight=1.0, teacher_weight=0.0
            ),
        }
        for name, recipe in fresh.items():
            self._train(name, self._winner, recipe)

    def judged(self) -> dict[str, Judged]:
        """All networks, timed in turns."""
        opened = {name: OnnxClassifier(path, self.threads) for name, path in self.paths.items()}
        samples = interleaved(
            {name: _timer(network, self.batch) for name, network in opened.items()},
            ROUNDS,
            warmup=2,
        )
        return {
            name: Judged(
                statistics.median(samples[name]),
                self._accuracy(network),
                _weights(self.paths[name]) / 1e6,
            )
            for name, network in opened.items()
        }

    def _accuracy(self, network: OnnxClassifier) -> float:
        import numpy as np

        right = 0
        for start in range(0, len(self.test), 250):
            rows = np.arange(start, min(start + 250, len(self.test)))
            pictures, labels = self.test.take(rows)
            assert labels is not None
            right += int((network.run(pictures.numpy()).argmax(-1) == labels.numpy()).sum())
        return right / len(self.test)

    def _train(self, name: str, make: Callable[[], ImageNetwork], recipe: Recipe) -> None:
        plain = re.sub(r"[^a-z]+", "-", name.lower())
        self.paths[name] = self.folder / "onnx" / f"{plain}.onnx"
        if self.paths[name].is_file():
            return
        self.progress.say(f"training {name}")
        student = make()
        distill(
            student, self.teacher, self.images, recipe, name=name, seed=0, progress=self.progress
        )
        self._exported(student.eval(), plain)

    def _winner(self) -> ImageNetwork:
        """DisWOT's choice from S0 within half of the teacher's operations, with fresh weights."""
        assert isinstance(self.teacher, CifarResNet)
        half = self.teacher.spec.size().flops / 2e6
        answer = search(
            SearchRequest(
                space="diswot-s0",
                proxies=("diswot",),
                teacher=str(self.files["resnet56.safetensors"]),
                data=self.files["train.npz"],
                limits=(f"flops_m={half}",),
            ),
            self.progress,
        )
        winner = answer.ranked[0].architecture
        self._note(f"DisWOT's winner is {winner}.")
        student = resnet_from_key(winner).build(0)
        assert isinstance(student, ImageNetwork)
        return student

    def _pruned(self) -> ImageNetwork:
        """The least pruned network that is as fast as the student, by bisection."""
        goal = SAME_LATENCY
        low, high = 0.0, 0.9
        found: ImageNetwork | None = None
        kept = 0.0
        for _ in range(6):
            ratio = (low + high) / 2
            network = prune(self.teacher, ratio)
            if self._slower(network) <= goal:
                found, high, kept = network, ratio, ratio
            else:
                low = ratio
        if found is None:
            found, kept = prune(self.teacher, high), high
        self._note(f"Torch-Pruning removes {kept:.0%} of the channels of each group.")
        return found

    def _note(self, text: str) -> None:
        """Keep a line for the table beside the networks."""
        path = self.folder / "notes.txt"
        known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        path.write_text("\n".join(dict.fromkeys([*known, text])), encoding="utf-8")

    @property
    def notes(self) -> list[str]:
        return (self.folder / "notes.txt").read_text(encoding="utf-8").splitlines()

    def _slower(self, network: ImageNetwork) -> float:
        """Latency over the student's, both timed in turns."""
        pair = {
            "pruned": OnnxClassifier(self._exported(network, "trial"), self.threads),
            "student": OnnxClassifier(self.paths["student"], self.threads),
        }
        samples = interleaved(
            {name: _timer(one, self.batch) for name, one in pair.items()}, 9, warmup=2
        )
        return statistics.median(samples["pruned"]) / statistics.median(samples["student"])

    def _exported(self, network: nn.Module, name: str) -> Path:
        path = self.folder / "onnx" / f"{name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = self.test.side
        with quiet_export(), torch.no_grad():
            torch.onnx.export(
                copy.deepcopy(network).eval(),
                (torch.zeros(2, 3, side, side),),
                path,
                dynamo=True,
                verbose=False,
                input_names=["pixel_values"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        return path


class ProjectedBlock(nn.Module):
    """A basic block whose padded shortcut is the 1x1 convolution that it amounts to, which
    Torch-Pruning can follow."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = block.conv1, block.bn1, block.conv2, block.bn2
        inputs, outputs = block.conv1.in_channels, block.conv2.out_channels
        self.shortcut = nn.Conv2d(inputs, outputs, 1, block.stride, bias=False)
        with torch.no_grad():
            weight = self.shortcut.weight.zero_()
            weight[block.padding[0] + torch.arange(inputs), torch.arange(inputs), 0, 0] = 1.0

    def forward(self, state: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(state)))))
        return F.relu(branch + self.shortcut(state))


class PlainBlock(nn.Module):
    """A basic block whose shortcut is the state."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = block.conv1, block.bn1, block.conv2, block.bn2

    def forward(self, state: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(state))))) + state)


def prune(teacher: ImageNetwork, ratio: float) -> ImageNetwork:
    """The teacher without a share of the channels of every group, the smallest by magnitude."""
    pruning = require("torch_pruning", extra="torch-pruning")
    network = copy.deepcopy(teacher).train()
    assert isinstance(network, CifarResNet)
    for stage in network.stages:
        assert isinstance(stage, nn.Sequential)
        for i, block in enumerate(stage):
            assert isinstance(block, BasicBlock)
            changes = block.stride > 1 or any(block.padding)
            stage[i] = ProjectedBlock(block) if changes else PlainBlock(block)
    example = torch.zeros(2, 3, 32, 32)
    pruning.pruner.BasePruner(
        network,
        example,
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network.head],
    ).step()
    return network


def _timer(network: OnnxClassifier, batch: int) -> Any:
    return settled(lambda: network.time_prefill(batch, 1))


def _weights(path: Path) -> int:
    onnx = require("onnx", extra="cpu")
    model = onnx.load(str(path), load_external_data=False)
    total = 0
    for tensor in model.graph.initializer:
        size = 1
        for dim in tensor.dims:
            size *= dim
        total += size
    return total


def lines(summary: Summary, judged: Mapping[str, Judged], notes: Iterable[str]) -> Iterable[str]:
    c = summary.target.conditions[0]
    steps = summary.student.distillation
    assert steps is not None
    yield (
        f"Latency: {c.runtime} {c.runtime_version}, {c.device}, {c.threads} threads, {c.dtype}, "
        f"batch {c.batch}, all in turns."
    )
    each = steps.tokens // steps.steps
    yield f"Training: {steps.steps} steps of {each} pictures for each student."
    yield from notes
    minutes = sum(step.seconds for step in summary.passes) / 60
    yield f"All passes of the compiler together took {minutes:.0f} minutes.\n"
    yield "| network | pictures/s | speed-up | params M | accuracy | points lost |"
    yield "|---|---|---|---|---|---|"
    teacher = judged["teacher"]
    for name, one in judged.items():
        yield (
            f"| {name} | {1000 * c.batch / one.ms:.0f} | {teacher.ms / one.ms:.2f} | "
            f"{one.params_m:.2f} | {100 * one.accuracy:.1f} % | "
            f"{100 * (teacher.accuracy - one.accuracy):+.1f} |"
        )
    yield ""


if __name__ == "__main__":
    raise SystemExit(main())
