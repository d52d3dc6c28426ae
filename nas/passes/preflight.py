"""Preflight: what a later pass would refuse is refused before any work is done."""

from __future__ import annotations

from collections.abc import Collection

from nas.config import ImageFile, RunConfig
from nas.errors import ConfigError
from nas.ir import (
    Architecture,
    ChainShape,
    DecoderShape,
    GroupedQueryAttention,
    LinearMap,
    PictureShape,
    TransformerShape,
    in_float,
)
from nas.passes._batch import windows_a_step
from nas.passes._context import PassContext
from nas.solvers import create_solver

_NEEDED = {
    "pairs": "an encoder",
    "tasks": "a language model",
    "lm_eval": "a language model",
    "images": "a classifier of pictures",
}
_READ_TEXT = frozenset({"build", "score", "assemble", "distill", "export", "evaluate"})


def preflight(context: PassContext, passes: Collection[str]) -> None:
    """Check what `passes` read and what the configuration names.

    Text is read and cut here, and stays for the passes. Finished work is not looked at again.
    Raises ConfigError for text, a batch, tasks or a solver that cannot be used, and CapabilityError
    where an optional package or provider is missing or builds no engine for a GPU that is asked
    for.
    """
    create_solver(context.config.solve.solver)
    _require_kind(context)
    _require_precisions(context)
    _require_relations(context)
    _require_provider(context)
    _require_layouts(context)
    if "evaluate" in passes:
        _require_tasks(context)
    if "export" in passes:
        _require_engines(context)
        _require_vocabulary(context)
    if not _READ_TEXT.isdisjoint(passes):
        windows = context.require_text()
        if "distill" in passes:
            _require_batch(context, windows)


def _require_batch(context: PassContext, windows: int) -> None:
    """Raise ConfigError where the training text is less than a step of distillation."""
    config, data = context.config.distill, context.config.data
    pictures = any(isinstance(source, ImageFile) for source in data.sources)
    if config.steps:
        windows_a_step(config, windows, 1 if pictures else data.sequence_length)


def _require_engines(context: PassContext) -> None:
    from nas.backends.tensorrt import ENGINE_FORMATS
    from nas.passes.export import engine_targets, recorded_sms

    asked = [name for name in ENGINE_FORMATS if name in context.config.export.formats]
    engine_targets(context, [name for name in asked if not recorded_sms(context, name)])


def _require_provider(context: PassContext) -> None:
    if context.config.target.provider != "cpu":
        from nas.backends.providers import require_provider

        require_provider(context.config.target.provider)


def _require_layouts(context: PassContext) -> None:
    """Raise CapabilityError for a layout that cannot even express the teacher, ConfigError where
    the space has blocks that it has no words for."""
    from nas.teachers import read_shape

    formats = _unwritten_layouts(context)
    if not formats:
        return
    from nas.backends.deci import deci_layers, require_llama_cpp

    shape = read_shape(context.config.teacher)
    if not isinstance(shape, DecoderShape):
        raise ConfigError(
            f"export.formats: {' and '.join(formats)}: a layout of decoders, the teacher "
            f"is a {shape.family}; leave it out"
        )
    layers = deci_layers(shape, Architecture())
    if "gguf" in formats:
        require_llama_cpp(shape, layers)
    _require_expressible(context, shape, " and ".join(formats))


def _unwritten_layouts(context: PassContext) -> list[str]:
    """Those of the DeciLM layout's formats that are asked for and were not written yet."""
    asked = [name for name in ("decilm", "gguf") if name in context.config.export.formats]
    return [name for name in asked if context.run.record(f"export/{name}-student") is None]


def _require_expressible(context: PassContext, shape: DecoderShape, formats: str) -> None:
    """Raise ConfigError for kinds of blocks in the space that the layout cannot express: which of
    them a student gets is known only after all the work."""
    from search_spaces import load_space

    name, own = context.config.space, (None, shape.query_heads)
    blocks: set[str] = set()
    changes: dict[str, None] = {}
    for candidate in load_space(name).candidates(shape, context.width_multiple):
        match in_float(candidate.spec):
            case LinearMap():
                blocks.add("linear maps with an offset")
                changes[f"{candidate.slot.kind}.linear: false"] = None
            case GroupedQueryAttention(kv_heads=kept, query_heads=heads) if heads not in own:
                blocks.add("attention with fewer query heads")
                share = "query_heads" if kept == shape.kv_heads else "groups"
                changes[f"attention.{share}_percent: []"] = None
    if blocks:
        raise ConfigError(
            f"export.formats: {formats} cannot express {' and '.join(sorted(blocks))}, which the "
            f"space {name} has; set {', '.join(changes)} in a space of your own, take "
            f"space: decoder-served, or leave {formats} out"
        )


def _require_vocabulary(context: PassContext) -> None:
    """Raise CapabilityError where no GGUF file could be written for want of a package, or for the
    teacher's tokenizer."""
    from nas._imports import require
    from nas.passes.export import vocabulary, vocabulary_file

    if "gguf" not in _unwritten_layouts(context):
        return
    require("gguf", extra="gguf")
    if vocabulary_file(context) is None:
        require("llama_cpp", package="llama-cpp-python")
    vocabulary(context)


def _require_precisions(context: PassContext) -> None:
    """Raise ConfigError for blocks that round where what is asked for has none."""
    from search_spaces import load_space

    config = context.config
    precisions = load_space(config.space).precisions
    if not precisions:
        return
    named, instead = " and ".join(sorted(precisions)), "set precision: float"
    engines = sorted({"tensorrt_rtx", "tensorrt"} & set(config.export.formats))
    if engines and precisions != {"float16"}:
        raise ConfigError(
            f"export.formats: {engines[0]} takes no blocks of eight bits whose range is found as "
            f"they run; an engine would need Q/DQ pairs with ranges from a calibration. Set "
            f"precision: float in the space {config.space}, or leave {engines[0]} out"
        )
    if config.target.dtype != "float32":
        raise ConfigError(
            f"target.dtype: blocks of {named} stand in float32 networks alone, not in "
            f"{config.target.dtype}; {instead} in the space {config.space}"
        )
    if config.target.meter == "roofline" and config.target.calibration is not None:
        raise ConfigError(
            f"target.calibration: its efficiencies are of float32, and the space {config.space} "
            f"has blocks of {named}; leave it out, measure, or {instead} in the space"
        )
    if "float16" in precisions:
        _require_halves(config)
        if engines and config.export.engine_dtype != "float32":
            raise ConfigError(
                f"export.engine_dtype: blocks of float16 are chosen in a float32 network, which "
                f"an engine of {config.export.engine_dtype} would not be; set it to float32, or "
                f"{instead} in the space {config.space}"
            )


def _require_halves(config: RunConfig) -> None:
    """Raise ConfigError for a target on which half precision saves nothing, or is not known."""
    from hardware_profiles import load_profile

    target, profile = config.target, load_profile(config.target.hardware)
    if profile.kind != "gpu" and target.provider == "cpu":
        raise ConfigError(
            f"target.hardware: blocks of float16 are for GPUs, and {profile.name} is a processor: "
            f"ONNX Runtime keeps and multiplies their weights in float32 there. Name a GPU, or "
            f"leave float16 out of precision in the space {config.space}"
        )
    if target.meter == "roofline" and "float16" not in profile.peak_tflops:
        raise ConfigError(
            f"target.hardware: the profile {profile.name} states no peak_tflops of float16; add "
            f"it, or leave float16 out of precision in the space {config.space}"
        )


def _require_tasks(context: PassContext) -> None:
    config = context.config.evaluate
    if config.pairs:
        from nas.evaluation import read_pairs

        for path in config.pairs:
            read_pairs(path, config.limit)
    if config.images:
        from nas.data import labelled_images

        for path in config.images:
            if isinstance(context.shape, PictureShape):
                labelled_images(path, context.shape)
    if config.tasks:
        from nas.evaluation import read_items

        for path in config.tasks:
            read_items(path, config.limit)
    if config.lm_eval:
        from nas.passes.evaluate_harness import require_known

        require_known(context)


def _require_relations(context: PassContext) -> None:
    """Raise ConfigError for relations that the teacher cannot teach."""
    from nas.teachers import read_shape

    config = context.config.distill
    if config.relation_weight == 0:
        return
    shape = read_shape(context.config.teacher)
    if shape.generates or not isinstance(shape, TransformerShape):
        raise ConfigError(
            f"distill.relation_weight: relations of all tokens are an encoder's, the teacher is a "
            f"{shape.family}; set it to 0"
        )
    if config.relation_heads > shape.head_dim:
        # A student may have a single head there.
        raise ConfigError(
            f"distill.relation_heads: {config.relation_heads} relation heads do not fit in one "
            f"attention head of {shape.head_dim} channels, which a student may be left with; ask "
            f"for fewer"
        )
    if not -shape.layers <= config.relation_layer < shape.layers:
        raise ConfigError(
            f"distill.relation_layer: {config.relation_layer} is none of the {shape.layers} layers "
            f"of the teacher; use 0 to {shape.layers - 1}, or -1 for the last"
        )


def _require_kind(context: PassContext) -> None:
    """Raise ConfigError for what is asked of another kind of network than the teacher is."""
    from nas.teachers import read_shape

    config, phases = context.config.evaluate, context.config.target.phases
    asked = [name for name in _NEEDED if getattr(config, name)]
    if not (asked or "decode" in phases):
        return
    shape = read_shape(context.config.teacher)
    if "decode" in phases and not shape.generates:
        raise ConfigError(
            f"target.phases: a {shape.family} takes all at once and decodes nothing; "
            f"use target.phases: [prefill]"
        )
    for name in asked:
        if _NEEDED[name] != _kind(shape):
            raise ConfigError(
                f"evaluate.{name}: this needs {_NEEDED[name]}, the teacher is a {shape.family}"
                f"{' without a classifier' if shape.reads_pictures and shape.embeds else ''}; "
                f"remove it"
            )


def _kind(shape: ChainShape) -> str:
    if shape.reads_pictures:
        return "an encoder of pictures" if shape.embeds else "a classifier of pictures"
    return "a language model" if shape.generates else "an encoder"
