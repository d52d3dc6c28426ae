"""The run configuration: one typed tree, unknown keys refused, one function that merges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from nas._config_errors import describe
from nas._documents import load_yaml
from nas.errors import ConfigError

Key = tuple[str, ...]
"""The parts of a dotted key of the configuration."""


class Section(BaseModel):
    """Base of every section."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Channels = tuple[float, float, float]


class ImageConfig(Section):
    """How a teacher of pictures takes them, where neither its weights nor the files beside them
    tell: the `side` in pixels (of a ResNet by default 32 where the stem is 3 wide, else 224), and
    `mean` and `std` of each channel, from 0 to 1, by which they are normalised."""

    side: PositiveInt | None = None
    mean: Channels = (0.485, 0.456, 0.406)
    std: Annotated[Channels, Field(min_length=3)] = (0.229, 0.224, 0.225)


class TeacherConfig(Section):
    """`source`: a Hugging Face folder, a hub id, a GGUF file, the .safetensors file of a ResNet or
    of timm's ViT, or `package:NAME/FILE` for a file that an installed Python package carries.
    `tokenizer` overrides where the tokenizer is read; `image`: of a teacher of pictures.

    `stream`: whether the passes read a slot's weights when they come to it and hold no others. It
    changes no result; `auto` does so where the weights exceed the memory at hand."""

    source: str = Field(min_length=1)
    revision: str | None = None
    tokenizer: str | None = None
    image: ImageConfig | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    stream: Literal["auto"] | bool = "auto"
    trust_remote_code: bool = False


class FileText(Section):
    """A text file, or every `*.txt` and `*.md` file under a folder."""

    kind: Literal["file"] = "file"
    path: Path


class JsonlText(Section):
    """One document a line, in `field`."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path
    field: str = "text"


class DatasetText(Section):
    """A dataset of the optional package `datasets`."""

    kind: Literal["datasets"] = "datasets"
    name: str
    config: str | None = None
    split: str = "train"
    field: str = "text"


class PythonDocsText(Section):
    """The English reference text that ships with Python itself (`pydoc_data.topics`)."""

    kind: Literal["python_docs"] = "python_docs"


class TeacherSamplesText(Section):
    """Text sampled from the teacher. Joins the training text only, and is never scored on.

    `prompt_tokens` of training text (0: the beginning-of-text token alone) open each sample.
    """

    kind: Literal["teacher_samples"] = "teacher_samples"
    tokens: PositiveInt = 65536
    prompt_tokens: int = Field(default=16, ge=0)
    temperature: PositiveFloat = 1.0
    batch: PositiveInt = 32


class ImageFile(Section):
    """Pictures for a teacher of pictures: an .npz file with `images` uint8 [N, h, w, 3], of the
    side that the teacher takes. Labels in it are not read: the teacher is what is learnt from."""

    kind: Literal["images"] = "images"
    path: Path


TextSource = Annotated[
    FileText | JsonlText | DatasetText | PythonDocsText | TeacherSamplesText | ImageFile,
    Field(discriminator="kind"),
]


class DataConfig(Section):
    """The text, and how much of its end is kept apart.

    The token stream is cut into train | score | evaluate, in this order and without overlap;
    `evaluate_fraction` of it from the end, then `score_sequences` windows before that. Pictures are
    shuffled first, and each counts as a window of one token.
    """

    sources: tuple[TextSource, ...] = (PythonDocsText(),)
    sequence_length: PositiveInt = 256
    evaluate_fraction: float = Field(default=0.1, gt=0, lt=0.9)
    evaluate_tokens: PositiveInt | None = None
    score_sequences: PositiveInt = 8
    train_tokens: PositiveInt | None = None


class ScenarioConfig(Section):
    """Another batch and other lengths on the same target. What is left out is as in `target`;
    `table`: the file of these conditions, for the meter `table`."""

    batch: PositiveInt | None = None
    prompt_tokens: PositiveInt | None = None
    output_tokens: PositiveInt | None = None
    table: Path | None = None


ScenarioName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class TargetConfig(Section):
    """Where the student will run and under which conditions it is measured.

    `provider`: the execution provider of ONNX Runtime that the meter `onnxruntime` uses here.
    `table`: the file that the meter `table` reads. `calibration`: efficiencies for the meter
    `roofline`, as `nas measure RUN --calibrate` writes them. `scenarios`: further conditions by
    name, each measured as well, which `budgets.scenarios` may limit. `batches`: other batch sizes
    that the search may choose in the place of `batch`; each is measured as the scenario `batch-N`,
    and the target's own budgets hold at the one that is chosen."""

    hardware: str = "local"
    meter: Literal["onnxruntime", "torch", "roofline", "table"] = "onnxruntime"
    provider: Literal["cpu", "cuda", "tensorrt", "tensorrt_rtx"] = "cpu"
    table: Path | None = None
    calibration: Path | None = None
    batch: PositiveInt = 1
    batches: tuple[PositiveInt, ...] = ()
    prompt_tokens: PositiveInt = 512
    output_tokens: PositiveInt = 128
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    threads: PositiveInt | None = None
    repeats: PositiveInt = 9
    phases: tuple[Literal["prefill", "decode"], ...] = ("prefill", "decode")
    scenarios: dict[ScenarioName, ScenarioConfig] = {}

    def in_scenario(self, name: str) -> TargetConfig:
        """The same target under the conditions of a scenario, as if there were no other."""
        given = {k: v for k, v in vars(self.scenarios[name]).items() if v is not None}
        return self.model_copy(update={**given, "scenarios": {}, "batches": ()})

    @model_validator(mode="before")
    @classmethod
    def _batches_are_scenarios(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("batches"), (list, tuple)):
            return data
        own, given = data.get("batch", 1), data.get("scenarios") or {}
        others = {f"batch-{b}": {"batch": b} for b in data["batches"] if b != own}
        return {**data, "scenarios": {**others, **given}} if isinstance(given, dict) else data

    @property
    def every_batch(self) -> tuple[int, ...]:
        """All batch sizes that may be chosen, the target's own first."""
        return tuple(dict.fromkeys((self.batch, *self.batches)))

    def at_batch(self, batch: int) -> TargetConfig:
        """The target under its own conditions, with one of `every_batch`."""
        return self if batch == self.batch else self.in_scenario(f"batch-{batch}")


class PhaseLimits(Section):
    """A limit for each phase; a bare number in the configuration means prefill."""

    prefill: PositiveFloat | None = None
    decode: PositiveFloat | None = None


class Limits(Section):
    """What may be limited under one set of conditions. All that is given must hold.

    `latency_ms`: prefill of the whole prompt, decode of one token. `speedup`: teacher over student,
    same phases. `ttft_ms`: time to the first token, which is prefill of the whole prompt.
    `tokens_per_s`: tokens that decoding writes in a second, of all sequences of the batch.
    `throughput_tokens_per_s`: batch * (prompt + output tokens) over the whole request.
    `memory_mib`: weights (tied embeddings once) and KV cache at batch and full length.
    `kv_mib_per_sequence`: the cache of one sequence at full length.
    """

    latency_ms: PositiveFloat | PhaseLimits | None = None
    speedup: PositiveFloat | PhaseLimits | None = None
    ttft_ms: PositiveFloat | None = None
    tokens_per_s: PositiveFloat | None = None
    throughput_tokens_per_s: PositiveFloat | None = None
    memory_mib: PositiveFloat | None = None
    kv_mib_per_sequence: PositiveFloat | None = None

    def limits(self, name: str) -> dict[Literal["prefill", "decode"], float]:
        """`latency_ms` or `speedup` by phase, as far as given; a bare number limits prefill."""
        value = getattr(self, name)
        if value is None:
            return {}
        if not isinstance(value, PhaseLimits):
            return {"prefill": float(value)}
        both: dict[Literal["prefill", "decode"], float | None] = {
            "prefill": value.prefill,
            "decode": value.decode,
        }
        return {phase: limit for phase, limit in both.items() if limit is not None}

    @property
    def needed_phases(self) -> dict[str, frozenset[str]]:
        """The phases that each given limit is a sum of, by the limit's name."""
        needed: dict[str, frozenset[str]] = {
            f"{name}.{phase}": frozenset({phase})
            for name in ("latency_ms", "speedup")
            for phase in self.limits(name)
        }
        sums: dict[str, frozenset[str]] = {
            "ttft_ms": frozenset({"prefill"}),
            "tokens_per_s": frozenset({"decode"}),
            "throughput_tokens_per_s": frozenset({"prefill", "decode"}),
        }
        given = {name: phases for name, phases in sums.items() if getattr(self, name) is not None}
        return needed | given


class BudgetsConfig(Limits):
    """Limits under the target's own conditions, and on `params_m` (millions), which has none.

    `scenarios`: limits under the conditions that `target.scenarios` names. All hold together."""

    params_m: PositiveFloat | None = None
    scenarios: dict[ScenarioName, Limits] = {}


class PruneConfig(Section):
    """Which candidates are worth training, decided before any is: at most the share `keep` of them
    (1: nothing is pruned and no draft is made).

    The drafts of the share `trials`, those that the choice hangs on, are run in the network;
    `calibrate` of them are finished (where `build.epochs` says that blocks are trained) and say
    what training changes. Intervals hold at `confidence`. The budgets count as they are and tighter
    and looser by `reach`; `cells` is the number of parts by cost of which the best are kept first;
    `draws` is as in `score`."""

    keep: float = Field(default=1.0, gt=0, le=1)
    trials: float = Field(default=0.2, gt=0, le=1)
    calibrate: int = Field(default=8, ge=4)
    confidence: float = Field(default=0.8, ge=0.5, lt=1)
    reach: float = Field(default=0.0, ge=0, lt=1)
    cells: PositiveInt = 3
    draws: PositiveInt = 12


class BuildConfig(Section):
    """Closed forms on `tokens`, then blockwise local distillation for `epochs` over the same
    activations (0: closed forms only). The last `held_out_fraction` judges both.

    With `rungs` above 1 local distillation pauses that many times, the end included, each time
    after `rung_factor` times as many steps: candidates that can no longer enter a solution inside
    the budgets stop and stay as they are. Intervals and prices are those of pruning, so
    `prune.keep` must be below 1. A block that learns all the way is the same with and without."""

    tokens: PositiveInt = 32768
    held_out_fraction: float = Field(default=0.125, gt=0, lt=0.9)
    ridge: PositiveFloat = 1e-4
    epochs: int = Field(default=0, ge=0)
    batch_tokens: PositiveInt = 1024
    learning_rate: PositiveFloat = 3e-4
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    rungs: PositiveInt = 1
    rung_factor: float = Field(default=2.0, gt=1)


class ObjectiveConfig(Section):
    """What of an encoder of texts is kept near the teacher's: 1 - cos of embeddings, plus
    `similarity_weight` times the squared error of a text's similarities with others, relative to
    their variance (nearly one less the correlation of all similarities). Scores, refinement, refit
    and depth cuts go by it; distillation has a weight of its own."""

    similarity_weight: float = Field(default=1.0, ge=0)


class ScoreConfig(Section):
    """`replace_one`: KL(teacher || teacher with one block swapped), computed from the slot on.
    `one_backward`: the same to second order, for all candidates at once, from `draws` backward
    passes over the scoring text with labels drawn from the teacher. `focused`: one_backward for
    all, replace_one for at most the share `focus_share` of them, where the choice under the
    budgets hangs on it; what is seen there corrects the others.

    `until_certain` (with `replace_one`): `race_sequences` at a time, and only candidates that could
    still be chosen under the budgets go on to the next; one is out when paired differences say so
    at `race_confidence`."""

    method: Literal["replace_one", "one_backward", "focused"] = "replace_one"
    batch_sequences: PositiveInt = 8
    draws: PositiveInt = 8
    focus_share: float = Field(default=0.2, gt=0, le=1)
    until_certain: bool = False
    race_sequences: int = Field(default=4, ge=2)
    race_confidence: float = Field(default=0.9, ge=0.5, lt=1)

    @model_validator(mode="after")
    def _races_by_swaps(self) -> Self:
        if self.until_certain and self.method != "replace_one":
            raise ValueError(
                f"score.until_certain needs score.method: replace_one (found {self.method}); "
                "set it, or leave until_certain out"
            )
        return self


class SolveConfig(Section):
    """The selection by mixed-integer program."""

    solver: str = "mip"
    time_limit_s: PositiveFloat = 60.0
    gap: PositiveFloat = 1e-6


class RefineConfig(Section):
    """Steps away from the solution of the summed scores, each confirmed by the KL it realises.

    In each of `rounds` the network is expanded to second order about the present choice, swaps and
    pairs of swaps included; the best choices within `radius` slots of it, within half as many, and
    so on, and the best `swaps` of one or two slots are realised, and the lowest is kept where its
    KL on the scoring text is lower than the present one's; a round that keeps nothing is the last.
    `options` candidates of a slot are looked at, beside the present and the teacher's block;
    `draws` is as in `score`."""

    rounds: int = Field(default=0, ge=0)
    radius: PositiveInt = 12
    swaps: int = Field(default=0, ge=0)
    options: PositiveInt = 5
    draws: PositiveInt = 6


class AssembleConfig(Section):
    """Blocks put together, then refitted on `refit_tokens` of the training text (0: not at all):
    slot by slot, the layer that writes to the residual stream is regressed towards the teacher's
    state. `ridge` penalises its change, relative to the mean square of its features. The refit is
    kept where the KL on the scoring text falls.

    Before that, attention and feed-forward of each layer where the solution replaced both may learn
    together, for `couple_epochs` (0: they do not) on `couple_tokens` of the training text: from the
    teacher's state before the layer to its state after it. A pair stays where the held-out error of
    the layer falls, all of them where the KL on the scoring text does."""

    refit_tokens: int = Field(default=32768, ge=0)
    ridge: PositiveFloat = 0.1
    couple_epochs: int = Field(default=0, ge=0)
    couple_tokens: PositiveInt = 16384
    couple_learning_rate: PositiveFloat = 1e-4

    @property
    def changes_blocks(self) -> bool:
        """Whether a student is more than the library's blocks."""
        return bool(self.refit_tokens or self.couple_epochs)


class DistillConfig(Section):
    """Global distillation: `cosine_weight` * mean over layers of (1 - cos) + `kl_weight` * KL. For
    an encoder the distance of embeddings stands in the place of the KL; `similarity_weight` is that
    of the section `objective`, here none by default: the few directions in which texts differ make
    steep and noisy gradients.

    An encoder may also learn how its tokens stand to each other: `relation_weight` * KL of the
    query, key and value relations of the attention in `relation_layer` (counted from 0, from the
    end where negative), each cut into `relation_heads` parts (MiniLMv2, arXiv 2012.15828).

    Of a classifier of pictures: `temperature` softens both sides of the KL; `standardised` brings
    logits to mean 0 and deviation 1 first; `diswot_relation_weight` and `diswot_semantic_weight`
    are those of DisWOT's metrics of the last feature maps. Pictures are moved and mirrored at
    random.

    A step's `batch_tokens` pass in pieces of `micro_batch_tokens`, which bounds the memory."""

    steps: int = Field(default=100, ge=0)
    batch_tokens: PositiveInt = 2048
    micro_batch_tokens: PositiveInt = 1024
    learning_rate: PositiveFloat = 5e-4
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    cosine_weight: float = Field(default=1.0, ge=0)
    kl_weight: float = Field(default=1.0, ge=0)
    similarity_weight: float = Field(default=0.0, ge=0)
    relation_weight: float = Field(default=0.0, ge=0)
    relation_layer: int = -1
    relation_heads: PositiveInt = 12
    temperature: PositiveFloat = 1.0
    standardised: bool = False
    diswot_relation_weight: float = Field(default=0.0, ge=0)
    diswot_semantic_weight: float = Field(default=0.0, ge=0)
    clip_norm: PositiveFloat = 1.0
    train_embeddings: bool = False
    checkpoint_every: PositiveInt = 50


class ExportConfig(Section):
    """`formats`: `decilm` is a folder for vLLM, `gguf` a file for llama.cpp; both refuse a student
    that they cannot express. `tensorrt_rtx` builds engines on a CPU, `tensorrt` on the GPU that
    they are for.
    `sm`: compute capabilities to build engines for, such as 89; empty: for tensorrt_rtx those that
    the hardware profile names, for tensorrt that of this machine."""

    formats: tuple[
        Literal["huggingface", "onnx", "decilm", "gguf", "tensorrt_rtx", "tensorrt"], ...
    ] = ("huggingface", "onnx")
    sm: tuple[PositiveInt, ...] = ()
    engine_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    greedy_tokens: PositiveInt = 64


class EvaluateConfig(Section):
    """`generations` prompts of `prompt_tokens`, each continued greedily by `generate_tokens`.

    `tasks`: multiple-choice or cloze files (JSONL); `lm_eval`: tasks or groups of tasks of
    lm-evaluation-harness, by name; `pairs`, of an encoder: JSONL files of texts `a` and `b`,
    perhaps with a `score`, whose similarities are ranked; `images`, of a teacher of pictures: .npz
    files with `images` and `labels`, on which accuracy is taken; `limit`: items of each that are
    used."""

    generations: int = Field(default=8, ge=0)
    prompt_tokens: PositiveInt = 32
    generate_tokens: PositiveInt = 64
    tasks: tuple[Path, ...] = ()
    pairs: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    lm_eval: tuple[str, ...] = ()
    limit: PositiveInt | None = None


BaselineName = Literal["uniform_ffn", "uniform_ffn_within", "depth_cut", "depth_cut_within"]


class RunConfig(Section):
    """Everything a run depends on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    teacher: TeacherConfig
    data: DataConfig = DataConfig()
    space: str = "decoder"
    target: TargetConfig = TargetConfig()
    budgets: BudgetsConfig
    prune: PruneConfig = PruneConfig()
    build: BuildConfig = BuildConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    score: ScoreConfig = ScoreConfig()
    solve: SolveConfig = SolveConfig()
    refine: RefineConfig = RefineConfig()
    assemble: AssembleConfig = AssembleConfig()
    baselines: tuple[BaselineName, ...] = ("uniform_ffn", "depth_cut")
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _rungs_have_a_judge(self) -> Self:
        if self.build.rungs > 1 and self.prune.keep == 1:
            raise ValueError(
                "build.rungs: candidates stop by what pruning knows of them; set prune.keep below "
                "1, or leave rungs out"
            )
        return self

    @model_validator(mode="after")
    def _budgets_can_be_measured(self) -> Self:
        groups: dict[str, Limits] = {"budgets": self.budgets}
        groups |= {f"budgets.scenarios.{k}": v for k, v in self.budgets.scenarios.items()}
        given = [value for group in groups.values() for value in vars(group).values()]
        if all(v is None or v == PhaseLimits() or isinstance(v, dict) for v in given):
            raise ValueError("budgets: give at least one, such as budgets.speedup=1.5")
        for name in sorted(self.budgets.scenarios.keys() - self.target.scenarios.keys()):
            known = ", ".join(self.target.scenarios) or "none"
            raise ValueError(
                f"budgets.scenarios.{name}: target.scenarios has no {name} (it has {known}); "
                f"add it there"
            )
        for path, group in groups.items():
            for name, phases in group.needed_phases.items():
                if missing := phases - set(self.target.phases):
                    raise ValueError(
                        f"{path}.{name}: add {' and '.join(sorted(missing))} to target.phases"
                    )
        narrowed = self.prune.keep < 1 or self.score.until_certain
        if self.target.batches and (narrowed or self.score.method == "focused"):
            raise ValueError(
                "target.batches: prune.keep, score.until_certain and score.method: focused leave "
                "out what the budgets at one batch do not need; use them with one target.batch"
            )
        if self.target.calibration and self.target.meter != "roofline":
            raise ValueError(
                f"target.calibration: the meter roofline reads it, target.meter is "
                f"{self.target.meter}; set one or leave the other out"
            )
        if self.target.provider != "cpu" and self.target.meter != "onnxruntime":
            raise ValueError(
                f"target.provider: the meter onnxruntime uses it, target.meter is "
                f"{self.target.meter}; set one or leave the other out"
            )
        if self.target.meter == "onnxruntime" and self.target.dtype != "float32":
            raise ValueError(
                f"target.dtype: ONNX Runtime gets float32 networks, so {self.target.dtype} is not "
                f"measured with it; use float32, or the meter roofline or table"
            )
        return self


def with_budget(config: RunConfig, path: str, value: float, where: str) -> RunConfig:
    """A copy with another limit for `path`, such as `memory_mib`, `latency_ms` (of prefill),
    `latency_ms.decode` or `scenarios.chat.speedup`; all other limits stay. Raises ConfigError, its
    lines opened by `where`.
    """
    budgets = config.budgets.model_dump(exclude_none=True)
    group: Limits = config.budgets
    section: dict[str, Any] = budgets
    if path.startswith("scenarios.") and path.count(".") > 1:
        _, scenario, path = path.split(".", 2)
        group = config.budgets.scenarios.get(scenario, Limits())
        section = budgets["scenarios"].setdefault(scenario, {})
    name, _, phase = path.partition(".")
    if name in ("latency_ms", "speedup"):
        section[name] = {**group.limits(name), phase or "prefill": value}
    else:
        section[path] = value
    return validate_config({**config.model_dump(), "budgets": budgets}, where)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Defaults, then the YAML file, then `KEY=VALUE` overrides; raises ConfigError.

    Relative paths inside the file start at the file's folder, those of overrides at the current
    one, where they were typed.
    """
    data = _read_yaml(path)
    typed = [_apply_override(data, override) for override in overrides]
    config = validate_config(data, str(path))

    def folder_of(key: Key) -> Path:
        return Path.cwd() if any(key[: len(t)] == t for t in typed) else path.parent

    return _anchor_names(_anchor_paths(config, folder_of), folder_of)


def validate_config(data: Mapping[str, Any], where: str) -> RunConfig:
    """Check a plain dictionary; `where` opens each error line."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(describe(error, RunConfig, where)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `nas init` writes a configuration") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(data).__name__}")
    return data


def _apply_override(data: dict[str, Any], override: str) -> Key:
    """Put the value in its place; returns the key."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, as in budgets.latency_ms=12")
    *parents, leaf = key.split(".")
    section = data
    for parent in parents:
        child = section.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent} is not a section")
        section = child
    try:
        section[leaf] = load_yaml(text)
    except ValueError as error:
        raise ConfigError(f"--set {override}: not a YAML value: {error}") from error
    return (*parents, leaf)


def _no_path(key: Key, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{'.'.join(key)}: not a path that can be looked up ({reason}); correct it")


def _anchor_names(config: RunConfig, folder_of: Callable[[Key], Path]) -> RunConfig:
    """Names that may also be paths are paths where such a file or folder exists."""

    def anchor(name: str, *key: str) -> str:
        near = folder_of(key) / name
        try:
            return str(near.resolve()) if near.exists() else name
        except (OSError, ValueError, RuntimeError) as error:
            raise _no_path(key, error) from error

    teacher, target = config.teacher, config.target
    named = {"source": anchor(teacher.source, "teacher", "source")}
    if teacher.tokenizer is not None:
        named["tokenizer"] = anchor(teacher.tokenizer, "teacher", "tokenizer")
    hardware = anchor(target.hardware, "target", "hardware")
    return config.model_copy(
        update={
            "teacher": teacher.model_copy(update=named),
            "target": target.model_copy(update={"hardware": hardware}),
            "space": anchor(config.space, "space"),
        }
    )


def _anchor_paths(config: RunConfig, folder_of: Callable[[Key], Path]) -> RunConfig:
    def anchor(value: Any, key: Key) -> Any:
        if isinstance(value, Path):
            try:
                return value if value.is_absolute() else (folder_of(key) / value).resolve()
            except (OSError, ValueError, RuntimeError) as error:
                raise _no_path(key, error) from error
        if isinstance(value, Section):
            fields = type(value).model_fields
            return value.model_copy(
                update={name: anchor(getattr(value, name), (*key, name)) for name in fields}
            )
        if isinstance(value, tuple):
            return tuple(anchor(item, key) for item in value)
        if isinstance(value, dict):
            return {name: anchor(item, (*key, name)) for name, item in value.items()}
        return value

    anchored: RunConfig = anchor(config, ())
    return anchored
