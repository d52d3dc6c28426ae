"""Real processes: what only the operating system can tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "onnxruntime", "numpy")


def nas(*arguments: str, code: str = "main()", cwd: Path | None = None) -> subprocess.Popen[str]:
    """`nas ARGUMENTS` in a process of its own; `code` runs after `from nas.cli import main`."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom nas.cli import main\n{code}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
    )


def test_help_imports_nothing_heavy() -> None:
    code = f"""
try:
    main()
finally:
    print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)
"""
    process = nas("--help", code=code)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "Usage: nas" in out
    assert err == "[]\n"


def test_an_interrupt_ends_with_130_and_the_command(tmp_path: Path) -> None:
    code = """
import signal, time, nas.compiler, nas.starter
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
nas.starter.write_starter(Path("nas.yaml"))
def work(config, run, progress, **_):
    print("at work", flush=True)
    time.sleep(60)
nas.compiler.compile_run = work
main()
"""
    with nas("run", "nas.yaml", "--set", "seed=1", code=code, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "go on with: nas run nas.yaml --set seed=1" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    with nas("ls", "-f", "json", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_no_codes_of_a_terminal_reach_a_pipe(tmp_path: Path) -> None:
    process = nas("ls", cwd=tmp_path)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "\x1b" not in out + err
    assert all(line == line.rstrip() for line in out.splitlines())
