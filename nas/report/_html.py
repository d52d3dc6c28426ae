"""One self-contained page. It renders a validated summary and computes nothing of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nas.report import _charts, _format, _heat, _strip, _words
from nas.report.summary import Summary, load_summary
from nas.run import write_atomically


def render_html(summary: Summary) -> str:
    """The report: inline style, script and drawings; no request leaves the page."""
    context: dict[str, Any] = {
        "s": summary,
        "figures": _words.figures(summary),
        "verdict": _words.verdict(summary),
        "conditions": _words.conditions_in_words(summary),
        "certificate": _words.certificate(summary),
        "certainty": _words.certainty(summary),
        "additivity": _words.additivity(summary),
        "pace": _words.pace(summary),
        "strip": _strip.strip(summary),
        "heat_maps": _heat.heat_maps(summary),
        "curves": _charts.curves(summary),
        "dumbbells": _charts.dumbbells(summary),
    }
    return _environment().get_template("report.html.j2").render(context) + "\n"


def write_report(summary: Summary, folder: Path) -> Path:
    """Write `summary.json`, read it back with all checks, render `report.html` from that.

    Returns the page's path. Raises ArtifactError if the file does not validate, PassError if the
    disk refuses.
    """
    path = folder / "summary.json"
    write_atomically(path, summary.model_dump_json(indent=1) + "\n")
    page = folder / "report.html"
    write_atomically(page, render_html(load_summary(path)))
    return page


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nas.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fixed=_format.fixed,
        sig=_format.significant,
        like=_format.like,
        ratio=_format.ratio,
        percent=_format.percent,
        signed_percent=_format.signed_percent,
        thousands=_format.count,
        duration=_format.duration,
        file_size=_format.file_size,
        title_of=_format.title_of,
        model_title=_words.model_title,
    )
    return environment
