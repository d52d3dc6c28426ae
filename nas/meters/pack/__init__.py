"""A folder that measures blocks on another machine, and what runs there."""

from nas.meters.pack._write import Pack, write_pack

__all__ = ["Pack", "write_pack"]
