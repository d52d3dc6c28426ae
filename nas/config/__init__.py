"""The run configuration: one typed tree, unknown keys refused, one function that merges."""

from nas.config._budgets import BudgetsConfig, Limits, PhaseLimits
from nas.config._data import (
    DataConfig,
    DatasetText,
    FileText,
    ImageFile,
    JsonlText,
    PythonDocsText,
    TeacherSamplesText,
    TextSource,
)
from nas.config._library import BuildConfig, ObjectiveConfig, PruneConfig, ScoreConfig
from nas.config._load import load_config, validate_config, with_budget
from nas.config._outputs import EvaluateConfig, ExportConfig
from nas.config._run import RunConfig
from nas.config._section import Section
from nas.config._student import (
    AssembleConfig,
    BaselineName,
    DistillConfig,
    RefineConfig,
    SolveConfig,
)
from nas.config._target import ScenarioConfig, ScenarioName, TargetConfig
from nas.config._teacher import Channels, ImageConfig, TeacherConfig

__all__ = [
    "AssembleConfig",
    "BaselineName",
    "BudgetsConfig",
    "BuildConfig",
    "Channels",
    "DataConfig",
    "DatasetText",
    "DistillConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FileText",
    "ImageConfig",
    "ImageFile",
    "JsonlText",
    "Limits",
    "ObjectiveConfig",
    "PhaseLimits",
    "PruneConfig",
    "PythonDocsText",
    "RefineConfig",
    "RunConfig",
    "ScenarioConfig",
    "ScenarioName",
    "ScoreConfig",
    "Section",
    "SolveConfig",
    "TargetConfig",
    "TeacherConfig",
    "TeacherSamplesText",
    "TextSource",
    "load_config",
    "validate_config",
    "with_budget",
]
