"""The curve against figures worked out by hand, and fits against curves that are known."""

from __future__ import annotations

import itertools

import pytest

from nas.errors import ConfigError
from nas.meters import (
    FORMS,
    Curve,
    Efficiency,
    Form,
    Observation,
    Operator,
    Roof,
    cross_validated,
    fit_curve,
    relative_errors,
    root_mean_square,
)

ROOF = Roof(flops_per_s=1e12, bytes_per_s=1e11)
PRIOR = Efficiency(compute=0.5, bandwidth=0.5, overhead_us=5)
MAX = Form(overlap=True, by_class=True)
ALIKE = Form(overlap=True, by_class=False)
TRUE = {
    "a": Efficiency(compute=0.7, bandwidth=0.4, overhead_us=12),
    "b": Efficiency(compute=0.2, bandwidth=0.9, overhead_us=3),
}


def known(form: Form) -> Curve:
    classes = TRUE if form.by_class else {"a": TRUE["a"], "b": TRUE["a"]}
    return Curve(roof=ROOF, form=form, classes=classes)


def sweep(curve: Curve, kinds: str = "ab") -> list[Observation]:
    """Operators of small, balanced and large size, bound by either roof."""
    sizes = itertools.product(kinds, (1e6, 1e8, 1e10), (1e4, 1e7, 1e9))
    works = [{Operator(kind, flops, moved): 2} for kind, flops, moved in sizes]
    return [Observation(work, curve.milliseconds(work), str(i)) for i, work in enumerate(works)]


@pytest.mark.parametrize(("overlap", "busy_us"), [(True, 100 / 0.4), (False, 10 / 0.7 + 250)])
def test_an_operator_takes_the_longer_or_the_sum_and_its_overhead(
    overlap: bool, busy_us: float
) -> None:
    curve = known(Form(overlap=overlap, by_class=True))
    # 1e7 operations take 10 us at the roof, 1e7 bytes 100 us.
    assert curve.milliseconds({Operator("a", 1e7, 1e7): 3}) == pytest.approx(3e-3 * (busy_us + 12))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.label)
def test_a_fit_finds_the_curve_that_made_the_times(form: Form) -> None:
    found = fit_curve(sweep(known(form)), ROOF, PRIOR, form)
    for kind, efficiency in known(form).classes.items():
        for name, value in efficiency.model_dump().items():
            assert getattr(found.classes[kind], name) == pytest.approx(value, rel=0.02)


def test_errors_are_relative() -> None:
    """Of one constant, least squares on relative errors is the sum of 1/y over that of 1/y^2."""
    work = {Operator("a", 0, 0): 1}
    times = (1.0, 2.0, 4.0)
    seen = [Observation(work, ms, str(ms)) for ms in times]
    found = fit_curve(seen, ROOF, PRIOR, MAX)
    best = sum(1 / ms for ms in times) / sum(1 / ms**2 for ms in times)
    assert found.milliseconds(work) == pytest.approx(best, rel=1e-4)
    assert relative_errors(found, seen) == pytest.approx([best / ms - 1 for ms in times], abs=1e-3)


def test_equal_work_counts_once_for_every_measurement() -> None:
    shared = {Operator("a", 0, 0): 1}
    merged = [Observation(shared, ms, "x") for ms in (1.0, 1.0, 4.0)]
    apart = [Observation(dict(o.work), o.ms, "x") for o in merged]
    one, other = (fit_curve(each, ROOF, PRIOR, MAX) for each in (merged, apart))
    assert one.milliseconds(shared) == pytest.approx(other.milliseconds(shared), rel=1e-6)


def test_what_nothing_measured_decides_follows_the_device_as_a_whole() -> None:
    """Class b is seen at sizes where only its bandwidth matters."""
    curve = known(ALIKE)
    streaming = {Operator("b", 0, 1e9): 1}
    seen = [*sweep(curve, "a"), Observation(streaming, curve.milliseconds(streaming), "b")]
    found = fit_curve(seen, ROOF, PRIOR, MAX).classes["b"]
    assert found.compute == pytest.approx(TRUE["a"].compute, rel=0.05)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.label)
def test_a_class_that_nothing_measured_is_as_the_device_as_a_whole(form: Form) -> None:
    found = fit_curve(
        sweep(known(Form(overlap=form.overlap, by_class=False)), "a"), ROOF, PRIOR, form
    )
    work = {Operator("b", 1e8, 1e7): 1}
    assert found.milliseconds(work) == pytest.approx(
        found.milliseconds({Operator("a", 1e8, 1e7): 1}), rel=0.02
    )
    with pytest.raises(ConfigError, match="no efficiency of b operators"):
        found.model_copy(update={"otherwise": None}).milliseconds(work)


def test_a_class_with_one_member_is_left_out_like_any_other() -> None:
    curve = known(ALIKE)
    lone = {Operator("b", 1e8, 1e7): 1}
    seen = [*sweep(curve, "a"), Observation(lone, curve.milliseconds(lone), "b")]
    assert max(map(abs, cross_validated(seen, ROOF, PRIOR, ALIKE))) < 0.05
    assert max(map(abs, cross_validated(seen, ROOF, PRIOR, MAX))) < 0.5


def test_with_nothing_to_go_by_the_data_sheet_holds() -> None:
    work = {Operator("a", 1e10, 0): 1}
    seen = [Observation(work, 1e3 * 1e10 / (0.3 * 1e12) + 5e-3, "x")]
    found = fit_curve(seen, ROOF, PRIOR, MAX).classes["a"]
    assert found.compute == pytest.approx(0.3, rel=0.01)
    assert found.bandwidth == pytest.approx(PRIOR.bandwidth)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.label)
def test_cross_validation_prefers_the_form_that_made_the_times(form: Form) -> None:
    seen = sweep(known(form))
    unseen = {each: root_mean_square(cross_validated(seen, ROOF, PRIOR, each)) for each in FORMS}
    others = [error for each, error in unseen.items() if each.overlap != form.overlap]
    assert unseen[form] < 0.5 * min(others)
    assert unseen[form] <= min(unseen.values()) + 0.01


def test_a_group_is_never_on_both_sides() -> None:
    """Two groups that contradict each other: each is judged by the other's time."""
    work = {Operator("a", 0, 0): 1}
    seen = [Observation(work, ms, group) for ms, group in ((1, "x"), (1, "x"), (2, "y"), (2, "y"))]
    errors = cross_validated(seen, ROOF, PRIOR, MAX)
    assert sorted(errors) == pytest.approx([-0.5, -0.5, 1, 1], rel=0.01)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="no observations"):
        fit_curve([], ROOF, PRIOR, ALIKE)
    with pytest.raises(ValueError, match="two groups"):
        cross_validated([Observation({}, 1.0, "x")], ROOF, PRIOR, ALIKE)
