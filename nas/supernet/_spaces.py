"""The part of a space that one SuperLM serves: one sub-space of cost, or the union of several."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nas.errors import ConfigError
from nas.ir import EncoderShape
from nas.networks import BertSpec
from nas.supernet._slicing import student_shape
from search_spaces import BertSpace, Choice, list_student_spaces, load_student_space


@dataclass(frozen=True)
class SubSpace:
    """Students that share the weights of one SuperLM; `members` are spaces by name."""

    name: str
    members: tuple[tuple[str, BertSpace], ...]

    @property
    def count(self) -> int:
        """How many students; spaces do not overlap where they come from `sub_spaces`."""
        return sum(space.count for _, space in self.members)

    @property
    def about(self) -> list[object]:
        """What the weights of its SuperLM depend on beside teacher and lessons: the name does not
        say it, for unions share theirs and files are edited."""
        return [member.model_dump(mode="json") for _, member in self.members]

    @property
    def bound(self) -> BertSpec:
        """As large as the largest student in every dimension: the size of the SuperLM."""
        spaces = [space for _, space in self.members]
        layers, heads, hidden = (
            max(max(getattr(space, name)) for space in spaces)
            for name in ("layers", "heads", "hidden")
        )
        width = max(round(max(s.hidden) * max(s.mlp_ratio)) for s in spaces)
        return _spec(spaces[0], layers, heads, hidden, width / hidden)

    @property
    def largest(self) -> BertSpec:
        return max(self._corners(-1), key=lambda spec: spec.size().params)

    @property
    def smallest(self) -> BertSpec:
        return min(self._corners(0), key=lambda spec: spec.size().params)

    def sample(self, rng: random.Random) -> BertSpec:
        """A student, from each member space equally often."""
        _, space = rng.choice(self.members)
        return _spec_of(space, space.sample(rng))

    def specs(self) -> Iterator[BertSpec]:
        """Every student."""
        for _, space in self.members:
            for choice in space.choices():
                yield _spec_of(space, choice)

    def _corners(self, end: int) -> list[BertSpec]:
        """The first or last student of each member, its dimensions sorted."""
        found = []
        for _, space in self.members:
            dims = (space.layers, space.heads, space.hidden, space.mlp_ratio)
            layers, heads, hidden, ratio = (sorted(values)[end] for values in dims)
            found.append(_spec(space, int(layers), int(heads), int(hidden), ratio))
        return found


def sub_spaces(
    teacher: EncoderShape, names: Sequence[str] = (), k: int | None = None
) -> list[SubSpace]:
    """The spaces `names`, one SuperLM each (`k` None, or as many), or all in one (`k` 1).

    Without names: the three that come with nas for a teacher of this size. Raises ConfigError where
    there are none, for spaces of other builders, for students larger than the teacher, and for
    another `k`.
    """
    names = list(dict.fromkeys(names)) or _shipped(teacher)
    members = [(name, _fitted(name, teacher)) for name in names]
    for name, space in members:
        if space.teacher_heads != teacher.query_heads:
            raise ConfigError(
                f"--space {name}: teacher_heads is {space.teacher_heads}, the teacher has "
                f"{teacher.query_heads}; set it in a copy of the file"
            )
        student_shape(teacher, SubSpace(name, ((name, space),)).bound)
    if k == 1:
        return [SubSpace("union" if len(members) > 1 else members[0][0], tuple(members))]
    if k not in (None, len(members)):
        raise ConfigError(
            f"--sub-spaces {k}: there are {len(members)} spaces ({', '.join(names)}); give as many "
            f"with --space, or 1 for a single SuperLM over all of them"
        )
    return [SubSpace(name, ((name, space),)) for name, space in members]


def _shipped(teacher: EncoderShape) -> list[str]:
    """The sub-spaces that were made for a teacher of this size."""
    families = {
        (12, 768, 12): ("autodistil-base", "autodistil-small", "autodistil-tiny"),
        (6, 384, 12): (
            "autodistil-minilm-base",
            "autodistil-minilm-small",
            "autodistil-minilm-tiny",
        ),
    }
    size = (teacher.layers, teacher.hidden_size, teacher.query_heads)
    if size not in families:
        known = [name for name in list_student_spaces() if name.startswith("autodistil")]
        raise ConfigError(
            f"no sub-spaces come with nas for a teacher of {size[0]} layers, width {size[1]} and "
            f"{size[2]} heads; copy one of {', '.join(known)}, scale its values and give its path "
            f"with --space"
        )
    return list(families[size])


def _fitted(name: str, teacher: EncoderShape) -> BertSpace:
    """A space with the teacher's vocabulary and positions."""
    space = load_student_space(name)
    if not isinstance(space, BertSpace):
        raise ConfigError(f"--space {name}: students of {space.description}; give one of encoders")
    sizes = {"vocabulary": teacher.vocab_size, "positions": teacher.max_positions}
    return space.model_copy(update=sizes)


def _spec_of(space: BertSpace, choice: Choice) -> BertSpec:
    spec = space.spec(choice)
    assert isinstance(spec, BertSpec)
    return spec


def _spec(space: BertSpace, layers: int, heads: int, hidden: int, ratio: float) -> BertSpec:
    return BertSpec(
        layers,
        heads,
        hidden,
        ratio,
        teacher_heads=space.teacher_heads,
        vocabulary=space.vocabulary,
        positions=space.positions,
        tokens=space.tokens,
    )
