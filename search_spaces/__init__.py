"""Search spaces: YAML files that say which blocks may stand in a slot, and their loader."""

from search_spaces._loader import SearchSpace, list_spaces, load_space

__all__ = ["SearchSpace", "list_spaces", "load_space"]
