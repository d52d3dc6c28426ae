"""How calls end: code, message, no traceback, and what to type next."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

import pytest

from nas.errors import ArtifactError, CapabilityError, ConfigError, InfeasibleError, PassError
from tests.cli.conftest import Nas


def compile_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("nas.compiler.compile_run", fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PassError("the gate failed"), 1),
        (ArtifactError("torn"), 1),
        (ConfigError("no text"), 2),
        (InfeasibleError("cannot be met"), 3),
        (CapabilityError("add it with: pip install x"), 4),
    ],
)
def test_each_error_has_its_code_and_no_traceback(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    compile_raises(monkeypatch, error)

    result = nas("run", config)

    assert result.exit_code == code
    assert result.stderr == f"error: {error}\n"
    assert not result.stdout


def test_an_infeasible_budget_prints_values_that_are_feasible_when_typed_in(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tightest = {
        "latency_ms.prefill": 12.34567891,
        "speedup.prefill": 3.87654321,
        "tokens_per_s": 1234.5678,
        "scenarios.chat.speedup.decode": 1.23456789,
        "scenarios.chat.throughput_tokens_per_s": 0.0123456789,
        "scenarios.speedup.latency_ms.decode": 1.23456111,
    }
    compile_raises(monkeypatch, InfeasibleError("cannot be met", tightest))

    result = nas("run", config)

    assert result.exit_code == 3
    printed = dict(line.split() for line in result.stderr.splitlines()[2:])
    assert printed == {
        "latency_ms.prefill": "12.3457",
        "speedup.prefill": "3.87654",
        "tokens_per_s": "1234.56",
        "scenarios.chat.speedup.decode": "1.23456",
        "scenarios.chat.throughput_tokens_per_s": "0.0123456",
        "scenarios.speedup.latency_ms.decode": "1.23457",
    }


def test_an_interrupted_run_prints_the_command_that_resumes(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_raises(monkeypatch, KeyboardInterrupt())

    result = nas("run", config, "--output", "with space", "--set", "seed=1")

    assert result.exit_code == 130
    assert f"go on with: nas run {config} --output 'with space' --set seed=1\n" in result.stderr


def test_an_interrupted_reader_offers_nothing_to_resume(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.readers.list_entries", interrupt)

    result = nas("ls")

    assert result.exit_code == 130
    assert "go on with" not in result.stderr


def test_a_full_disk_names_the_path_and_says_that_nothing_is_lost(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_raises(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "runs/x/events"))

    result = nas("run", config)

    assert result.exit_code == 1
    assert "error: runs/x/events: No space left on device; free some space" in result.stderr
    assert "finished units stay; run the same command again" in result.stderr


def test_a_full_disk_while_a_unit_is_stored_says_so_too(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = PassError("cannot write runs/x/unit: No space left on device")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    compile_raises(monkeypatch, error)

    result = nas("run", config)

    assert result.exit_code == 1
    assert "cannot write runs/x/unit" in result.stderr
    assert "finished units stay" in result.stderr


def test_an_unexpected_error_leaves_its_traceback_in_the_run(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compile_raises(monkeypatch, ZeroDivisionError("seven"))

    result = nas("run", config)

    (written,) = (tmp_path / "runs" / "my-student" / "errors").iterdir()
    assert result.exit_code == 1
    assert "error: unexpected ZeroDivisionError: seven\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert written.name in result.stderr
    assert "ZeroDivisionError: seven" in written.read_text()


def test_nas_debug_shows_the_traceback_of_an_unexpected_error(
    nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_raises(monkeypatch, ZeroDivisionError("seven"))
    monkeypatch.setenv("NAS_DEBUG", "1")

    result = nas("run", config)

    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "there is no verb 'rnu'; did you mean 'run'?"),
        (["xyzzy"], "there is no verb 'xyzzy'\n"),
        (["run"], "Missing argument 'CONFIG'"),
        (["run", "nas.yaml", "--form", "score"], "--form"),
        (["run", "nas.yaml", "--from", "scor"], "no pass is named 'scor'; did you mean 'score'?"),
        (["run", "nas.yaml", "--to", "xyzzy"], "the passes are space, measure, prune, build"),
        (["ls", "solver"], "'solver' is not one of"),
        (["run", "absent.yaml"], "absent.yaml: no such file"),
        (["run", "nas.yaml", "--set", "budgets.sped=2"], "did you mean speedup?"),
        (["run", "nas.yaml", "--set", "budgets.params_m=0"], "budgets.params_m"),
        (["run", "nas.yaml", "--from", "solve", "--to", "build"], "--from solve comes after"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_meant(
    nas: Nas, config: Path, arguments: list[str], message: str
) -> None:
    del config

    result = nas(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_nas_alone_shows_its_help(nas: Nas) -> None:
    result = nas()

    assert result.exit_code == 2
    assert "Usage: nas" in result.stdout


def test_version_is_that_of_the_package(nas: Nas) -> None:
    result = nas("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("nas ")
