"""The configurations that users copy are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nas.cli import main

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))


def test_there_is_one_for_each_of_the_readers_purposes() -> None:
    names = [path.stem for path in EXAMPLES]
    assert names == [
        "llama-3.1-8b-h100",
        "minilm",
        "resnet",
        "smollm2-benchmark",
        "smollm2-demo",
        "vit",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_validates(path: Path) -> None:
    result = CliRunner().invoke(main, ["validate", str(path)])
    if path.stem in ("resnet", "vit"):  # weights and pictures are the user's own
        assert result.exit_code == 2
        unwrapped = " ".join(result.output.split())  # long paths break lines
        found = {"resnet": 2, "vit": 1}[path.stem]
        assert unwrapped.count(" error ") == unwrapped.count("no such file") == found
        return
    assert result.exit_code == 0, result.output
