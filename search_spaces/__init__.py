"""Search spaces, YAML files and their loaders: of the blocks that may stand in a slot, and of
whole students."""

from search_spaces._files import Kind, kind_of
from search_spaces._loader import SearchSpace, list_spaces, load_space
from search_spaces._students import (
    BertSpace,
    Choice,
    ImageSpace,
    StudentSpace,
    list_student_spaces,
    load_student_space,
)

__all__ = [
    "BertSpace",
    "Choice",
    "ImageSpace",
    "Kind",
    "SearchSpace",
    "StudentSpace",
    "kind_of",
    "list_spaces",
    "list_student_spaces",
    "load_space",
    "load_student_space",
]
