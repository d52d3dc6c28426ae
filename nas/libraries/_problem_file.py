"""Our own layout: the `problem.json` that runs keep beside each solution.

A `nas.ir.Problem`, and optionally `scores`: the losses of single sequences by `slot/variant`.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError

from nas.errors import ArtifactError
from nas.ir.problem import Budget
from nas.libraries._json import Node
from nas.libraries._library import BlockLibrary, Row, finite
from nas.uncertainty import fault_in_scores

LOSS = "loss"
_KEYS = ("slots", "budgets", "scores")
_OPTIONS = '[{"variant": ..., "loss": ..., "costs": {...}}, ...]'


def is_problem(data: Node) -> bool:
    """Whether `data` is meant as a problem, with mistakes or without.

    A library with a layer called slots is none: the Puzzle layout has no list where ours has them.
    """
    slots = data.get("slots")
    if isinstance(slots, list) or isinstance(data.get("budgets"), list):
        return True
    if not isinstance(slots, Node):
        return False
    listed = any(isinstance(options, list) for options in slots.values())
    return listed or (not slots and data.keys() <= set(_KEYS))


def from_problem(data: Node, path: Path) -> BlockLibrary:
    """Columns are `loss`, which is the objective, and the names of the costs.

    Raises ArtifactError for a file that is no problem, ConfigError for a budget on no column.
    """
    rows = {slot: _slot(slot, options, path) for slot, options in _slots(data, path).items()}
    library = BlockLibrary(
        path, rows, objective=LOSS, scores=_scores(data.get("scores", Node()), rows, path)
    )
    return replace(library, budgets=_whole(library, _budgets(data.get("budgets", []), path)))


def _whole(library: BlockLibrary, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """With costs by their whole names, so that a limit on the same column takes their place."""
    return tuple(
        b.model_copy(update={"cost": library.column(b.cost, f"budget {b.name} of the file:")})
        for b in budgets
    )


def _slots(data: Node, path: Path) -> Node:
    if data.repeated is not None:
        raise ArtifactError(f"{path}: {data.repeated} stands there twice; keep one of them")
    unknown = next((key for key in data if key not in _KEYS), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, _KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it holds {', '.join(_KEYS)}"
        raise ArtifactError(f"{path}: {unknown} is no part of a problem; {hint}")
    slots = data.get("slots")
    if not isinstance(slots, Node):
        what = "is no object" if "slots" in data else "is missing"
        raise ArtifactError(f"{path}: slots {what}; write slot: {_OPTIONS}")
    if slots.repeated is not None:
        raise ArtifactError(f"{path}: slot {slots.repeated} stands there twice; keep one of them")
    if not slots:
        raise ArtifactError(f"{path}: the problem is empty; give at least one slot")
    return slots


def _slot(slot: str, options: Any, path: Path) -> dict[str, Row]:
    if not isinstance(options, list):
        raise ArtifactError(f"{path}: slot {slot} is no list; write {_OPTIONS}")
    if not options:
        raise ArtifactError(f"{path}: slot {slot} has no variant; give it one or leave it out")
    rows: dict[str, Row] = {}
    for i, option in enumerate(options):
        variant = option.get("variant") if isinstance(option, Node) else None
        if not isinstance(variant, str):
            raise ArtifactError(f"{path}: slot {slot}: option {i} names no variant")
        if variant in rows:
            raise ArtifactError(
                f"{path}: slot {slot}: variant {variant} stands there twice; keep one of them"
            )
        rows[variant] = _row(option, f"{path}: slot {slot}, variant {variant}")
    return rows


def _row(option: Node, where: str) -> Row:
    costs = option.get("costs")
    repeated = option.repeated or (costs.repeated if isinstance(costs, Node) else None)
    if repeated is not None:
        raise ArtifactError(f"{where}: {repeated} stands there twice; keep one of them")
    if not isinstance(costs, Node) or option.keys() != {"variant", LOSS, "costs"}:
        raise ArtifactError(
            f"{where}: has {', '.join(option)}; an option holds variant, loss and costs by name"
        )
    if LOSS in costs:
        raise ArtifactError(f"{where}: a cost is called loss, as the objective; rename it")
    return {LOSS: option[LOSS], **costs}


def _budgets(listed: Any, path: Path) -> tuple[Budget, ...]:
    if not isinstance(listed, list):
        raise ArtifactError(f"{path}: budgets is no list")
    budgets = []
    for i, data in enumerate(listed):
        try:
            budgets.append(Budget.model_validate(data, strict=True))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (i, *first["loc"])))
            raise ArtifactError(f"{path}: budgets.{where}: {first['msg']}") from error
        if any(budgets[-1].name == earlier.name for earlier in budgets[:-1]):
            raise ArtifactError(
                f"{path}: budgets.{i}: {budgets[-1].name} stands there twice; keep one of them"
            )
    return tuple(budgets)


def _scores(data: Any, rows: dict[str, dict[str, Row]], path: Path) -> dict[str, tuple[float, ...]]:
    known = {f"{slot}/{variant}" for slot, variants in rows.items() for variant in variants}
    if not isinstance(data, Node):
        raise ArtifactError(f"{path}: scores is no object; write slot/variant: [one a sequence]")
    if data.repeated is not None:
        raise ArtifactError(f"{path}: scores.{data.repeated} stands there twice; keep one of them")
    scores = {}
    for name, values in data.items():
        if name not in known:
            raise ArtifactError(f"{path}: scores of {name}: there is no such slot/variant")
        if not (isinstance(values, list) and values and all(map(_is_number, values))):
            raise ArtifactError(f"{path}: scores of {name}: give a list of finite numbers")
        scores[name] = tuple(map(float, values))
    fault = fault_in_scores(scores, _losses(rows))
    if fault is not None:
        raise ArtifactError(f"{path}: {fault}")
    return scores


def _losses(rows: dict[str, dict[str, Row]]) -> dict[str, float]:
    """Of `slot/variant`; a loss that is no number is an error once it is asked for."""
    return {
        f"{slot}/{variant}": value
        for slot, variants in rows.items()
        for variant, row in variants.items()
        if _is_number(value := row[LOSS])
    }


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and finite(value)
