"""What a failure is of: the job, the memory at hand, or the disk that every job needs."""

from __future__ import annotations

import errno

_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory")  # torch, mmap, CUDA
_DISK = ("no space left on device", "disk quota exceeded", "read-only file system")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether the job may be done where there is more."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or _says(error, _MEMORY)


def no_room_on_disk(error: BaseException) -> bool:
    """Whether the next job would fail of it as well. safetensors hands on the system's words."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return type(error).__name__ == "SafetensorError" and _says(error, _DISK)


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(phrase in text for phrase in phrases)


def described(error: BaseException) -> dict[str, object]:
    """A worker's answer for a job that failed: `again` where another may do it, `fatal` where no
    other would."""
    return {
        "error": f"{type(error).__name__}: {error}",
        "again": ran_out_of_memory(error),
        "fatal": no_room_on_disk(error),
    }
