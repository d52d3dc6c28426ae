"""`summary.json`, and the page and tables that show it."""

from nas.report._choice import (
    BudgetSummary,
    CertaintySummary,
    Costs,
    OptionSummary,
    RefinementSummary,
    SlotCertaintySummary,
    SlotSummary,
    SolutionSummary,
    width_kept,
)
from nas.report._environment import this_environment
from nas.report._html import render_html, write_report
from nas.report._models import (
    DistillationSummary,
    ModelSummary,
    PhaseLatency,
    Quality,
    RefitSummary,
    TaskSummary,
)
from nas.report._records import (
    DataSummary,
    Environment,
    FileSummary,
    ForecastSummary,
    Gate,
    PassSummary,
    ScenarioSummary,
    TargetSummary,
    TeacherSummary,
)
from nas.report._tables import budget_table, scenario_table, summary_table
from nas.report.summary import SCHEMA_VERSION, Summary, load_summary, summary_schema

__all__ = [
    "SCHEMA_VERSION",
    "BudgetSummary",
    "CertaintySummary",
    "Costs",
    "DataSummary",
    "DistillationSummary",
    "Environment",
    "FileSummary",
    "ForecastSummary",
    "Gate",
    "ModelSummary",
    "OptionSummary",
    "PassSummary",
    "PhaseLatency",
    "Quality",
    "RefinementSummary",
    "RefitSummary",
    "ScenarioSummary",
    "SlotCertaintySummary",
    "SlotSummary",
    "SolutionSummary",
    "Summary",
    "TargetSummary",
    "TaskSummary",
    "TeacherSummary",
    "budget_table",
    "load_summary",
    "render_html",
    "scenario_table",
    "summary_schema",
    "summary_table",
    "this_environment",
    "width_kept",
    "write_report",
]
