"""A checkpoint of which each rank writes its part.

`FOLDER/STEP/RANK-of-SIZE.safetensors`, and `FOLDER/checkpoint.json`, written last: the step, the
hash of each part, what else is known, and a seal over all of it. torch's own sharded checkpoints
keep their index as a pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas._documents import load_json
from nas.run import content_key, file_digest, install, write_atomically
from nas.sharding._base import Ranks

_DAMAGE = (OSError, SafetensorError, KeyError, ValueError, TypeError)
_MOST_RANKS = 65536


class Saved:
    """A step that was saved, perhaps by another number of ranks; `facts` as they were given."""

    def __init__(
        self, step: int, facts: Mapping[str, Any], parts: Mapping[Path, str], ranks: Ranks
    ) -> None:
        self.step, self.facts, self._ranks = step, facts, ranks
        self._same = len(parts) == ranks.size
        needed = list(parts)[ranks.rank : ranks.rank + 1] if self._same else list(parts)
        for part in needed:
            if file_digest(part) != parts[part]:
                raise ValueError(f"{part} was altered")
        self._files = [safe_open(part, framework="pt") for part in needed]
        self.names = frozenset(self._files[0].keys())

    def local(self, name: str) -> Tensor:
        """This rank's part of a tensor."""
        parts: list[Tensor] = [file.get_tensor(name) for file in self._files]
        if self._same or not parts[0].dim():
            return parts[0]
        return _part(torch.cat(parts), self._ranks)


class ShardedCheckpoint:
    """The last step of what `ranks` work on together. All of its methods are collective."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder, self.ranks = folder, ranks
        self.index = folder / "checkpoint.json"

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the parts beside those of the step before, then take their place."""
        local = {n: self.ranks.local(t.detach()).contiguous() for n, t in tensors.items()}
        mine = self._parts(step, self.ranks.size)[self.ranks.rank]
        install(mine, lambda path: save_file(local, path))
        digests = self.ranks.gather(file_digest(mine))
        if self.ranks.first:
            index = {"step": step, "digests": digests, "facts": facts}
            write_atomically(self.index, json.dumps({**index, "seal": content_key(index)}))
            self._sweep(step)
        self.ranks.gather("")  # nobody writes the next step before this one counts

    def load(self) -> Saved | None:
        """The last step that was saved; None where there is none. Raises ValueError on every rank,
        naming the file, where a part is not as it was written."""
        found, problem = None, ""
        try:
            found = self._read() if self.index.exists() else None
        except _DAMAGE as error:
            problem = f"{self.index}: {type(error).__name__}: {error}"
        problems = [said for said in self.ranks.gather(problem) if said]
        if problems:
            raise ValueError(problems[0])
        return found

    def remove(self) -> None:
        """Leave nothing."""
        self.ranks.gather("")  # everyone has read what there is to read
        if self.ranks.first:
            self.index.unlink(missing_ok=True)  # else a kill would leave it without its parts
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> Saved:
        index = dict(load_json(self.index.read_text(encoding="utf-8")))
        if index.pop("seal") != content_key(index):
            raise ValueError(f"{self.index} was altered")
        step, digests = int(index["step"]), list(index["digests"])
        if not 0 < len(digests) <= _MOST_RANKS:
            raise ValueError(f"{self.index} names {len(digests)} parts")
        parts = dict(zip(self._parts(step, len(digests)), digests, strict=True))
        return Saved(step, dict(index["facts"]), parts, self.ranks)

    def _parts(self, step: int, size: int) -> list[Path]:
        return [self.folder / str(step) / f"{r}-of-{size}.safetensors" for r in range(size)]

    def _sweep(self, step: int) -> None:
        """Remove other steps, and what another number of ranks wrote of this one."""
        for folder in self.folder.glob("[0-9]*"):
            if folder.name != str(step):
                shutil.rmtree(folder, ignore_errors=True)
        for part in self.folder.glob(f"{step}/*.safetensors"):
            if not part.name.endswith(f"-of-{self.ranks.size}.safetensors"):
                part.unlink()


def _part(whole: Tensor, ranks: Ranks) -> Tensor:
    """The rows of this rank, as FSDP2 divides them: the last ranks may have fewer, or none."""
    each = -(-len(whole) // ranks.size)
    return whole[ranks.rank * each : (ranks.rank + 1) * each]
