"""Every way a call can end, as a message and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import click

from nas._words import feasible
from nas.console._session import Session
from nas.errors import InfeasibleError, NasError

INTERRUPTED = 130
FAILED = 1
_KEPT = "nothing is lost: finished units stay; run the same command again"


def guarded(call: Callable[[], object], session: Session) -> int:
    """Run `call`; its exit code, after one message on stderr if it failed.

    With NAS_DEBUG=1 an unexpected exception is raised on, with its traceback.
    """
    try:
        code = call()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted(session)
    except click.ClickException as error:
        return _usage(error, session)
    except NasError as error:
        return _refused(error, session)
    except OSError as error:
        return _system(error, session)
    except Exception as error:
        if os.environ.get("NAS_DEBUG") == "1":
            raise
        return _unexpected(error, session)
    return code if isinstance(code, int) else 0


def _interrupted(session: Session) -> int:
    session.warn("finished units are kept" if session.resumable else "stopped", "interrupted")
    if session.resumable:
        session.err.print(f"go on with: {_command(session)}", soft_wrap=True)
    return INTERRUPTED


def _usage(error: click.ClickException, session: Session) -> int:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and context is not None:
        click.echo(context.get_help())
        return error.exit_code
    session.warn(error.format_message())
    if context is not None:
        session.err.print(f"see `{context.command_path} --help`", soft_wrap=True)
    return error.exit_code


def _refused(error: NasError, session: Session) -> int:
    session.warn(str(error))
    if isinstance(error, InfeasibleError) and error.tightest:
        session.err.print("tightest feasible value of each budget, with no other budget:")
        widest = max(map(len, error.tightest))
        for name, value in error.tightest.items():
            session.err.print(f"  {name:<{widest}}  {feasible(name, value)}", soft_wrap=True)
    if isinstance(error.__cause__, OSError) and session.resumable:
        session.err.print(_KEPT, soft_wrap=True)
    return error.exit_code


def _system(error: OSError, session: Session) -> int:
    where = f"{error.filename}: " if error.filename is not None else ""
    hint = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    session.warn(f"{where}{error.strerror or error}{hint}")
    if session.resumable:
        session.err.print(_KEPT, soft_wrap=True)
    return FAILED


def _unexpected(error: Exception, session: Session) -> int:
    first = next(iter(str(error).strip().splitlines()), "no message")
    session.warn(f"unexpected {type(error).__name__}: {first}")
    try:
        place = f"the traceback is in {_write_traceback(error, session.run_root)}"
    except OSError as failure:
        place = f"the traceback could not be written ({failure.strerror or failure})"
    session.err.print(f"{place}; NAS_DEBUG=1 shows it here", soft_wrap=True)
    return FAILED


def _write_traceback(error: Exception, run_root: Path | None) -> Path:
    """Into the run's folder, or the system's temporary one where there is no run."""
    folder = run_root / "errors" if run_root and run_root.is_dir() else Path(tempfile.gettempdir())
    folder.mkdir(exist_ok=True)
    path = folder / f"nas-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path


def _command(session: Session) -> str:
    return shlex.join(["nas", *session.arguments])
