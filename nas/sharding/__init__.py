"""Sharding: the processes of one distillation, and what each of them holds."""

from nas.sharding._alone import Alone
from nas.sharding._base import Ranks, Task
from nas.sharding._start import join_ranks

__all__ = ["Alone", "Ranks", "Task", "join_ranks"]
