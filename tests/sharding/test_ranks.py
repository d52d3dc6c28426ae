"""Who takes which sequences, and what processes leave for each other."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nas.sharding import Alone, join_ranks
from nas.sharding.checkpoint import ShardedCheckpoint


class Together:
    """What the ranks of a test have in common."""

    def __init__(self, size: int) -> None:
        self.barrier, self.said = threading.Barrier(size), [""] * size


class Thread(Alone):
    """A rank that is a thread. It holds the rows that `torch.chunk` gives it."""

    def __init__(self, rank: int, size: int, together: Together) -> None:
        self.rank, self.size, self.together = rank, size, together

    def local(self, tensor: Tensor) -> Tensor:
        if not tensor.dim():
            return tensor
        chunks = tensor.chunk(self.size)
        return chunks[self.rank] if self.rank < len(chunks) else tensor[:0]

    def gather(self, text: str) -> list[str]:
        self.together.said[self.rank] = text
        self.together.barrier.wait(30)
        found = list(self.together.said)
        self.together.barrier.wait(30)
        return found


def on_ranks(size: int, work: Callable[[Thread], object]) -> list[object]:
    together = Together(size)
    ranks = [Thread(rank, size, together) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, ranks))


@pytest.mark.parametrize(("rows", "size", "most"), [(8, 2, 2), (7, 3, 2), (2, 3, 1), (5, 1, 2)])
def test_every_sequence_counts_once(rows: int, size: int, most: int) -> None:
    ids = torch.arange(rows * 3).view(rows, 3)
    parts = [Thread(rank, size, Together(1)).pieces(ids, most) for rank in range(size)]
    counted = [piece for part in parts for piece, share in part if share]
    assert torch.equal(torch.cat(counted), ids)
    assert sum(share for part in parts for _, share in part) == pytest.approx(1)
    assert len({len(part) for part in parts}) == 1
    assert all(len(piece) <= most for part in parts for piece, _ in part)


TENSORS = {
    "weight": torch.arange(21.0).view(7, 3),
    "bias": torch.arange(2.0),
    "step": torch.tensor(5.0),
}


@pytest.mark.parametrize(("writers", "readers"), [(1, 1), (3, 3), (3, 2), (1, 4), (4, 1)])
def test_a_checkpoint_is_read_by_any_number_of_ranks(
    tmp_path: Path, writers: int, readers: int
) -> None:
    def write(ranks: Thread) -> None:
        checkpoint = ShardedCheckpoint(tmp_path, ranks)
        checkpoint.save(2, {n: torch.zeros_like(t) for n, t in TENSORS.items()}, {})
        checkpoint.save(4, TENSORS, {"curve": [0.5]})

    def read(ranks: Thread) -> None:
        saved = ShardedCheckpoint(tmp_path, ranks).load()
        assert saved is not None
        assert (saved.step, saved.facts) == (4, {"curve": [0.5]})
        for name, tensor in TENSORS.items():
            assert torch.equal(saved.local(name), ranks.local(tensor))

    on_ranks(writers, write)
    assert [p.name for p in tmp_path.glob("*/")] == ["4"]
    on_ranks(readers, read)
    on_ranks(readers, lambda ranks: ShardedCheckpoint(tmp_path, ranks).remove())
    assert not tmp_path.exists()


def test_a_part_that_was_altered_is_named_on_every_rank(tmp_path: Path) -> None:
    on_ranks(2, lambda ranks: ShardedCheckpoint(tmp_path, ranks).save(1, TENSORS, {}))
    part = tmp_path / "1" / "1-of-2.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"\x7f")

    def read(ranks: Thread) -> str:
        with pytest.raises(ValueError, match="was altered") as error:
            ShardedCheckpoint(tmp_path, ranks).load()
        return str(error.value)

    assert all(str(part) in text for text in on_ranks(2, read))


def test_an_index_that_is_torn_or_makes_no_sense_is_refused(tmp_path: Path) -> None:
    alone = Alone()
    assert ShardedCheckpoint(tmp_path, alone).load() is None
    on_ranks(
        1, lambda ranks: ShardedCheckpoint(tmp_path, ranks).save(3, TENSORS, {"curve": [1.25]})
    )
    whole = (tmp_path / "checkpoint.json").read_text(encoding="utf-8")
    assert "1.25" in whole
    unsealed = json.dumps({"step": 1, "digests": [], "facts": {}})
    for index in ("{", "[]", unsealed, whole.replace("1.25", "9.25"), whole.replace("3", "4", 1)):
        (tmp_path / "checkpoint.json").write_text(index, encoding="utf-8")
        with pytest.raises(ValueError, match="checkpoint"):
            ShardedCheckpoint(tmp_path, alone).load()


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # of some other launcher
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert isinstance(join_ranks(), Alone)
