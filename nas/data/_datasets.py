"""Datasets of the optional package `datasets`."""

from __future__ import annotations

from collections.abc import Iterator

from nas._imports import require
from nas.config import DatasetText
from nas.data._base import TextSource
from nas.errors import ConfigError


class DatasetSource(TextSource):
    """One record is one document; empty texts are passed."""

    def __init__(self, config: DatasetText) -> None:
        self.config = config

    @property
    def name(self) -> str:
        config = self.config
        return "/".join(part for part in (config.name, config.config, config.split) if part)

    def documents(self) -> Iterator[str]:
        config = self.config
        datasets = require("datasets", extra="datasets")
        try:
            records = datasets.load_dataset(config.name, config.config, split=config.split)
        # datasets raises whatever its loaders, the hub or the file system raised
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"data.sources: the dataset {self.name} cannot be loaded: {reason}; check name, "
                f"config, split and network, or use a local file"
            ) from error
        for number, record in enumerate(records):
            text = record.get(config.field)
            if not isinstance(text, str):
                raise ConfigError(
                    f"data.sources: {self.name}: record {number} has no text in {config.field!r} "
                    f"(fields: {', '.join(record)}); set data.sources.field"
                )
            if text.strip():
                yield text
