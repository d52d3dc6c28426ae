"""What fits into a device's memory at once, and what is said where it does not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from nas.errors import PassError
from nas.ir import Phase
from nas.meters._base import Request

_MIB = 2**20
_ASKED = re.compile(r"(?:buffer of size|allocate) (\d[\d.]*)(?: (\w+))?")
_FAILED = re.compile(r"failed to allocate|out of memory|cudaerrormemoryallocation", re.IGNORECASE)


def anchors_of(
    requests: Sequence[Request], bytes_of: Callable[[Request], int]
) -> dict[Phase, Request]:
    """Of each phase the block that takes least, by which groups are compared; none where no block
    is measured."""
    anchors: dict[Phase, Request] = {}
    for request in sorted((r for r in requests if r.block is not None), key=bytes_of):
        anchors.setdefault(request.phase, request)
    return anchors


def in_groups(
    requests: Sequence[Request], bytes_of: Callable[[Request], int], room: int | None
) -> list[tuple[Request, ...]]:
    """`requests` in their order, cut into groups that take `room` bytes at most, the anchor of each
    phase among them. What is larger by itself has a group with its anchor alone; all are one group
    where they fit, or `room` is not known."""
    if room is None or sum(map(bytes_of, requests)) <= room:
        return [tuple(requests)]
    anchors, groups = anchors_of(requests, bytes_of), list[tuple[Request, ...]]()
    group: tuple[Request, ...] = ()
    met: set[Request] = set()
    for request in requests:
        if request in met:  # an anchor
            continue
        larger = _anchored((*group, request), anchors)
        if group and sum(map(bytes_of, larger)) > room:
            groups.append(group)
            larger = _anchored((request,), anchors)
        group = larger
        met |= set(group)
    return [*groups, group]


def _anchored(group: tuple[Request, ...], anchors: Mapping[Phase, Request]) -> tuple[Request, ...]:
    phases = dict.fromkeys(request.phase for request in group)
    return tuple(dict.fromkeys([*(anchors[p] for p in phases if p in anchors), *group]))


@contextlib.contextmanager
def memory_errors(
    where: str,
    names: Sequence[str],
    wanted_bytes: Callable[[], int],
    free_bytes: Callable[[], int | None],
) -> Iterator[None]:
    """PassError, opened by `where`, for torch and ONNX Runtime that cannot allocate: `names` take
    about `wanted_bytes`."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        free, asked = free_bytes(), _ASKED.search(str(error))
        figures = [f"the stacks of {', '.join(names)} take about {wanted_bytes() / _MIB:,.0f} MiB"]
        if asked:
            unit = asked.group(2) if asked.group(2) in ("KiB", "MiB", "GiB") else "bytes"
            figures.append(f"{asked.group(1)} {unit} more were refused")
        if free is not None:
            figures.append(f"{free / _MIB:,.0f} MiB are free now")
        raise PassError(
            f"{where}: the memory of the device is too small: {'; '.join(figures)}. End what else "
            f"runs on it, lower target.batch or target.prompt_tokens, or measure on a larger one "
            f"(nas measure RUN --pack)"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """By name: neither torch nor ONNX Runtime is imported for this."""
    kind = type(error)
    if kind.__name__ == "OutOfMemoryError":
        return True
    return kind.__module__.startswith("onnxruntime") and bool(_FAILED.search(str(error)))
