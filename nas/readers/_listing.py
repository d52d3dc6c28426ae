"""What there is to choose from: spaces, hardware, solvers, meters, runs, passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType

from nas._tables import table
from nas.config import TargetConfig
from nas.errors import NasError
from nas.run import RunDirectory

_METERS = {
    "onnxruntime": "measures blocks on this machine, in ONNX Runtime",
    "torch": "measures blocks on this machine, in torch, on its processor or GPU",
    "roofline": "predicts from a hardware profile, or from a calibration of it",
    "table": "reads measurements from the file of target.table",
}


class Entry(BaseModel):
    """Something with a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str


def list_entries(kinds: Iterable[str], runs: Path) -> dict[str, tuple[Entry, ...]]:
    """Entries by kind (see `KINDS`); `runs` is the folder that holds the runs."""
    listers: dict[str, Callable[[], tuple[Entry, ...]]] = {
        **_LISTERS,
        "runs": lambda: _runs(runs),
    }
    return {kind: listers[kind]() for kind in kinds}


def listing_tables(listing: Mapping[str, tuple[Entry, ...]]) -> Iterable[RenderableType]:
    for kind, entries in listing.items():
        rows = [(entry.name, entry.about) for entry in entries] or [("(none)", "")]
        yield table(kind, ("name", "about"), rows, whole=("name",))


def _spaces() -> tuple[Entry, ...]:
    from search_spaces import list_spaces, list_student_spaces, load_space, load_student_space

    entries = []
    for name in list_spaces():
        sections = load_space(name).model_dump(exclude_none=True, exclude_unset=True)
        about = "; ".join(f"{key}: {_choices(value)}" for key, value in sections.items())
        entries.append(Entry(name=name, about=f"blocks of a run; {about}"))
    for name in list_student_spaces():
        space = load_student_space(name)
        about = f"whole students for nas search; {space.description}: {space.count:,} architectures"
        entries.append(Entry(name=name, about=about))
    return tuple(entries)


def _choices(section: object) -> str:
    """The options of a section of a space in a few words."""
    if not isinstance(section, Mapping):
        return str(section)
    words = []
    for key, value in section.items():
        if isinstance(value, bool):
            words += [key] if value else []
        elif isinstance(value, tuple):
            words.append(f"{key} {' '.join(f'{v:g}' for v in value)}")
        else:
            words.append(f"{key} {value}")
    return ", ".join(words)


def _hardware() -> tuple[Entry, ...]:
    from hardware_profiles import list_profiles, load_profile

    names = list_profiles()
    return tuple(Entry(name=name, about=load_profile(name).description) for name in names)


def _solvers() -> tuple[Entry, ...]:
    from nas.solvers import create_solver, solver_names

    return tuple(
        Entry(name=name, about=_first_line(create_solver(name).__doc__)) for name in solver_names()
    )


def _strategies() -> tuple[Entry, ...]:
    from nas.search import create_strategy, list_strategies

    return tuple(
        Entry(name=name, about=_first_line(create_strategy(name).__doc__))
        for name in list_strategies()
    )


def _meters() -> tuple[Entry, ...]:
    names = get_args(TargetConfig.model_fields["meter"].annotation)
    return tuple(Entry(name=name, about=_METERS[name]) for name in names)


def _passes() -> tuple[Entry, ...]:
    from nas.compiler import PASSES

    return tuple(Entry(name=step.name, about=step.title) for step in PASSES)


def _runs(folder: Path) -> tuple[Entry, ...]:
    roots = sorted(path.parent for path in folder.glob("*/run.json"))
    return tuple(Entry(name=str(root), about=_how_far(root)) for root in roots)


def _how_far(root: Path) -> str:
    """The state of a run; of one that cannot be read the reason, for the others are still asked
    for."""
    from nas.readers._status import read_status

    try:
        status = read_status(RunDirectory.open(root))
    except (NasError, OSError) as error:
        return f"unreadable: {error}"
    done = sum(step.state == "done" for step in status.passes)
    return f"{status.state}, {done} of {len(status.passes)} passes done"


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].rstrip(".")


_LISTERS: dict[str, Callable[[], tuple[Entry, ...]]] = {
    "spaces": _spaces,
    "hardware": _hardware,
    "solvers": _solvers,
    "strategies": _strategies,
    "meters": _meters,
    "passes": _passes,
}
KINDS = (*_LISTERS, "runs")
