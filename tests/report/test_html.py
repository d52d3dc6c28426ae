"""The page: self-contained, escaped, balanced, and whole even when parts are missing."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nas.report import Summary, load_summary, render_html, write_report
from nas.report._charts import curves, dumbbells
from nas.report._format import percent, ratio
from nas.report._heat import heat_maps
from nas.report._strip import strip
from nas.report._words import certainty, certificate, pace, verdict
from tests.report.example_summary import example_summary

VOID = {"meta", "link", "br"}
HOSTILE = "\"'><script>alert(1)</script>{{ 7 * 7 }}"


class Outline(HTMLParser):
    """Collects tags, and fails on one that closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def changed(**fields: Any) -> Summary:
    """The example with other fields, validated anew."""
    return Summary.model_validate({**dict(example_summary()), **fields})


@pytest.fixture(scope="module")
def summary() -> Summary:
    return example_summary()


@pytest.fixture(scope="module")
def page(summary: Summary) -> str:
    return render_html(summary)


def test_no_request_leaves_the_page(page: str) -> None:
    assert not re.search(r"https?://", page)
    assert "@import" not in page
    assert "url(" not in page
    for tag, attributes in outline(page).tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,", tag
    assert "default-src 'none'" in page


def test_page_is_balanced_and_names_the_result(page: str) -> None:
    text = " ".join("".join(outline(page).text).split())
    for words in ("1.53\u00d7", "1.27\u00d7", "0.312", "88.3 M", "smollm2-cpu", "Proven optimal"):
        assert words in text
    assert "Nearer to the teacher than every baseline" in text
    assert "64.0 of 64" in text
    assert "Depth cut: layers 12 to 22 removed." in text
    assert "TensorRT-RTX engine, SM89" in text
    assert "None" not in text


def test_every_slot_and_every_option_is_drawn(summary: Summary, page: str) -> None:
    tags = outline(page).tags
    cells = [a for _, a in tags if (a.get("class") or "").startswith("cell ")]
    assert len(cells) == len(summary.slots) == 60
    tips = [a["title"] or "" for a in cells]
    for slot in summary.slots:
        assert any(tip.startswith(f"{slot.id}: {slot.chosen}\n") for tip in tips)
    options = sum(len(slot.options) for slot in summary.slots)
    assert page.count('<th scope="row" data-value=') == options
    heat = [a for t, a in tags if t == "i" and (a.get("style") or "").startswith("--heat")]
    assert len([a for a in heat if "title" in a]) == options


def test_forecast_stands_beside_actual(page: str) -> None:
    text = " ".join(" ".join(outline(page).text).split())
    assert "build 3 min 07 s 3 min 35 s \u221212.8 %" in text
    assert "distill 1 h 13 min \u2013 \u2013" in text
    # of the two that are done
    assert "those that are done 6 min 17 s 6 min 27 s \u22122.6 %" in text


def test_hostile_text_is_escaped() -> None:
    summary = example_summary()
    slot = summary.slots[3]
    options = tuple(
        option.model_copy(update={"variant": HOSTILE}) if option.variant == slot.chosen else option
        for option in slot.options
    )
    evil = slot.model_copy(update={"chosen": HOSTILE, "options": options})
    model = summary.baselines[0].model_copy(update={"name": HOSTILE})
    page = render_html(
        changed(
            name=HOSTILE,
            slots=(*summary.slots[:3], evil, *summary.slots[4:]),
            models=(*summary.models[:2], model, summary.models[3]),
            teacher=summary.teacher.model_copy(update={"source": HOSTILE}),
            files=tuple(f.model_copy(update={"path": HOSTILE}) for f in summary.files),
        )
    )
    assert "<script>alert" not in page
    assert "{{ 7 * 7 }}" in page
    parsed = outline(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert any(HOSTILE in text for text in parsed.text)


def _bare(summary: Summary) -> Summary:
    """Solved, but neither distilled, exported, profiled nor evaluated; prefill alone."""
    models = tuple(
        model.model_copy(
            update={
                "latency": tuple(
                    latency.model_copy(
                        update=dict.fromkeys(
                            (
                                "measured_median_ms",
                                "measured_p90_ms",
                                "spread",
                                "pace",
                                "error_percent",
                                "error_at_pace_percent",
                                "tokens_per_s",
                                "speedup",
                            )
                        )
                    )
                    for latency in model.latency[:1]
                ),
                "quality": None,
                "quality_before": None,
                "distillation": None,
            }
        )
        for model in summary.models[:2]
    )
    return changed(
        models=models,
        target=summary.target.model_copy(update={"conditions": summary.target.conditions[:1]}),
        budgets=(),
        solution=None,
        tasks=(),
        passes=(),
        forecast=(),
        files=(),
    )


def test_missing_parts_are_left_out(summary: Summary) -> None:
    text = " ".join("".join(outline(render_html(_bare(summary))).text).split())
    assert "predicted" in text
    assert "Not evaluated yet." in text
    assert "The run had no budget." in text
    for words in ("decode speed", "Tasks", "Training loss", "None", "nan"):
        assert words not in text


@pytest.mark.parametrize("field", ["budgets", "tasks", "passes", "forecast", "files"])
def test_each_optional_part_may_be_empty(field: str) -> None:
    outline(render_html(changed(**{field: ()})))


def test_without_baselines_and_without_distillation(summary: Summary) -> None:
    student = summary.student.model_copy(update={"distillation": None, "quality_before": None})
    page = render_html(changed(models=(summary.teacher_model, student)))
    text = "".join(outline(page).text)
    assert "baseline" not in text
    assert "before distillation" not in text


def test_the_verdict_claims_only_what_holds(summary: Summary) -> None:
    assert "at no more measured prefill time" in verdict(summary)
    teacher, student, uniform, cut = summary.models
    assert uniform.quality
    better = uniform.model_copy(
        update={"quality": uniform.quality.model_copy(update={"kl_nats": 0.2})}
    )
    assert "Not better than Uniform FFN" in verdict(changed(models=(teacher, student, better, cut)))
    slower = uniform.model_copy(update={"latency": teacher.latency})
    faster = cut.model_copy(update={"latency": student.latency})
    assert "at no more" in verdict(changed(models=(teacher, student, slower, faster)))
    swapped = uniform.model_copy(update={"latency": student.latency})
    slow_student = student.model_copy(update={"latency": uniform.latency})
    told = verdict(changed(models=(teacher, slow_student, swapped, cut)))
    assert "Nearer to the teacher than every baseline:" in told
    missed = summary.budgets[0].model_copy(update={"slack": -1.0})
    assert "Missed by the cost table: speedup.prefill." in verdict(changed(budgets=(missed,)))
    assert summary.solution
    late = summary.solution.model_copy(update={"status": "incumbent"})
    assert "not proven optimal" in certificate(changed(solution=late))


def test_the_machines_pace_is_told(summary: Summary) -> None:
    teacher, student, *others = summary.models
    assert (told := pace(summary)) in html.unescape(render_html(summary))
    assert f"took {ratio(1.03)} in prefill and {ratio(1.03)} in decode" in told
    unmeasured = student.model_copy(update={"latency": ()})
    assert pace(changed(models=(teacher, unmeasured, *others))) == ""


def test_the_page_says_how_sure_the_choice_is(summary: Summary) -> None:
    sure = [slot for slot in summary.slots if slot.certainty and slot.certainty.certain]
    first = summary.slots[0]
    assert first.certainty

    page = render_html(summary)

    assert f"{len(sure)} of 60 slots have the same block in {percent(0.9, 0)} of draws" in page
    assert f"in {percent(first.certainty.frequency, 0)} of draws; without it" in page


def test_a_slot_that_refinement_moved_is_not_called_certain(summary: Summary) -> None:
    first, *others = summary.slots
    moved = first.model_copy(update={"certainty": None})
    refined = summary.model_copy(update={"slots": (moved, *others)})
    sure = [slot for slot in others if slot.certainty and slot.certainty.certain]

    told = certainty(refined)

    assert told.startswith("Refinement moved 1 of 60 slots. Before that, on fresh text the sum is")
    assert f"{len(sure)} of the 59 others have the same block" in told
    (cell, *_) = strip(refined).cells[first.kind]
    assert cell
    assert "of draws" not in cell.tip


def test_a_run_that_was_not_judged_says_nothing_of_certainty(summary: Summary) -> None:
    assert summary.solution
    slots = tuple(slot.model_copy(update={"certainty": None}) for slot in summary.slots)
    solution = summary.solution.model_copy(update={"certainty": None})

    page = render_html(summary.model_copy(update={"slots": slots, "solution": solution}))

    assert "of draws" not in page
    assert "On fresh text" not in page


def test_geometry_stays_inside_its_frame(summary: Summary) -> None:
    drawing = strip(summary)
    shares = [cell.fill for cells in drawing.cells.values() for cell in cells if cell]
    for row in drawing.rows:
        heights = [max(bar.height, bar.ghost) for bars in row.bars for bar in bars]
        assert max(heights) == 100.0, row.title
        shares += heights
    assert all(0 <= share <= 100 for share in shares)
    for heat_map in heat_maps(summary):
        cells = [cell for _, row in heat_map.rows for cell in row if cell]
        assert all(0 <= cell.heat <= 100 for cell in cells)
        assert sum(cell.chosen for cell in cells) == 30
    plot = curves(summary)
    assert plot
    points = [float(n) for line in plot.lines for n in re.split(r"[ ,]", line.points)]
    assert all(0 <= n <= 1000 for n in points)
    bells = dumbbells(summary)
    assert bells
    assert all(0 <= row.after < (row.before or 0) <= 100 for row in bells.rows)


def test_write_report_renders_what_it_wrote(summary: Summary, page: str, tmp_path: Path) -> None:
    written = write_report(summary, tmp_path / "report")
    assert written == tmp_path / "report" / "report.html"
    assert written.read_text(encoding="utf-8") == page
    assert load_summary(tmp_path / "report" / "summary.json") == summary
    assert sorted(p.name for p in written.parent.iterdir()) == ["report.html", "summary.json"]
