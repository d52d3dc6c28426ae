"""A table of architectures whose accuracy is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.errors import ArtifactError, ConfigError
from nas.proxies._rows import read_rows


@dataclass(frozen=True)
class Accuracies:
    """`sizes` by name, the first of which is held when the gain over size is asked for.

    Architectures of one group compute the same: no split and no resample takes them apart.
    """

    architectures: tuple[str, ...]
    accuracy: tuple[float, ...]
    groups: tuple[str, ...] | None
    sizes: dict[str, tuple[float, ...]]
    title: str = ""

    def only(self, rows: Sequence[int]) -> Accuracies:
        """The table with these rows alone."""
        groups = None if self.groups is None else tuple(self.groups[i] for i in rows)
        sizes = {name: tuple(values[i] for i in rows) for name, values in self.sizes.items()}
        return Accuracies(
            tuple(self.architectures[i] for i in rows),
            tuple(self.accuracy[i] for i in rows),
            groups,
            sizes,
            self.title,
        )


def read_accuracies(
    path: Path,
    *,
    accuracy: str = "accuracy",
    architecture: str = "architecture",
    group: str | None = None,
    sizes: Sequence[str] = (),
) -> Accuracies:
    """From a CSV file with a header, the columns by name.

    Raises:
        ArtifactError: the file is not there, empty, torn, or has a cell that is no number.
        ConfigError: a column is missing, or an architecture stands there twice.
    """
    header, rows = read_rows(path)
    wanted = [architecture, accuracy, *([group] if group else []), *sizes]
    missing = [name for name in wanted if name not in header]
    if missing:
        have = ", ".join(header)
        raise ConfigError(f"{path}: there is no column {missing[0]!r}; it has {have}")
    names = tuple(row.cells[architecture] for row in rows)
    if len(names) < 3:
        raise ArtifactError(f"{path}: {len(names)} architectures; three are the least to rank")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ConfigError(f"{path}: {twice} stands there twice")
    return Accuracies(
        names,
        tuple(row.number(accuracy) for row in rows),
        tuple(row.cells[group] for row in rows) if group else None,
        {size: tuple(row.number(size) for row in rows) for size in sizes},
        title=path.name,
    )
