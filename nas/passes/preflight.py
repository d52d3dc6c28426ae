"""Preflight: what a later pass would refuse is refused before any work is done."""

from __future__ import annotations

from collections.abc import Collection

from nas.errors import ConfigError
from nas.passes._context import PassContext
from nas.solvers import create_solver

_READ_TEXT = frozenset({"build", "score", "assemble", "distill", "export", "evaluate"})


def preflight(context: PassContext, passes: Collection[str]) -> None:
    """Check what `passes` read and what the configuration names.

    Text is read and cut here, and stays for the passes. Finished work is not looked at again.
    Raises ConfigError for text, tasks or a solver that cannot be used, and CapabilityError where an
    optional package is missing or builds no engine for a GPU that is asked for.
    """
    create_solver(context.config.solve.solver)
    _require_kind(context)
    _require_relations(context)
    if "evaluate" in passes:
        _require_tasks(context)
    if "export" in passes and context.run.record("export/tensorrt_rtx-student") is None:
        _require_engines(context)
    if not _READ_TEXT.isdisjoint(passes):
        context.require_text()


def _require_engines(context: PassContext) -> None:
    if "tensorrt_rtx" in context.config.export.formats:
        from nas.passes.export import compute_capabilities

        compute_capabilities(context)


def _require_tasks(context: PassContext) -> None:
    config = context.config.evaluate
    if config.pairs:
        from nas.evaluation import read_pairs

        for path in config.pairs:
            read_pairs(path, config.limit)
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
    if shape.generates:
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
    if not (config.pairs or config.tasks or config.lm_eval or "decode" in phases):
        return
    shape = read_shape(context.config.teacher)
    if "decode" in phases and not shape.generates:
        raise ConfigError(
            f"target.phases: a {shape.family} reads a text in one pass and decodes nothing; "
            f"use target.phases: [prefill]"
        )
    if shape.generates and config.pairs:
        asked, needed = "evaluate.pairs", "an encoder"
    elif not shape.generates and (config.tasks or config.lm_eval):
        asked, needed = "evaluate.tasks" if config.tasks else "evaluate.lm_eval", "a language model"
    else:
        return
    raise ConfigError(f"{asked}: this needs {needed}, the teacher is a {shape.family}; remove it")
