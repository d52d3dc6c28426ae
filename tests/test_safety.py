"""What docs/safety.md promises and no other test holds."""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from nas.config import TeacherConfig
from nas.console import Session
from nas.errors import NasError
from nas.teachers import load_teacher, source_stamp

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("nas", "search_spaces", "hardware_profiles")
    for path in (ROOT / folder).rglob("*.py")
)
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
_ARCHIVES = {"tarfile", "zipfile"}
_TORN_ZIP = "from zipfile import BadZipFile"  # what numpy raises for a torn .npz
_CALLS = {"eval", "exec", "compile", "torch.load", "numpy.load", "np.load", "os.system", "os.popen"}
_CALLS |= {"yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive"}


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_or_unpickles_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and ast.unparse(node) == _TORN_ZIP:
            continue
        elif isinstance(node, ast.ImportFrom):
            names = {str(node.module).split(".")[0]}
        else:
            continue
        assert not names & (_MODULES | _ARCHIVES)
    for call in _calls(tree):
        keywords = {ast.unparse(k) for k in call.keywords}
        if ast.unparse(call.func) == "np.load":
            assert "allow_pickle=False" in keywords
            continue
        assert ast.unparse(call.func) not in _CALLS
        assert not any(k.arg == "shell" for k in call.keywords)
        if ast.unparse(call.func) == "yaml.load":
            assert [ast.unparse(a) for a in call.args[1:]] == ["_Loader"]  # a SafeLoader


def _with_code(folder: Path, mark: Path) -> None:
    """Give a teacher a tokenizer of its own code, which leaves `mark` when it is run."""
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    code += "from transformers import PreTrainedTokenizerFast as Theirs\n"
    (folder / "theirs.py").write_text(code + "class Tok(Theirs):\n    pass\n")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= {"tokenizer_class": "Tok", "auto_map": {"AutoTokenizer": [None, "theirs.Tok"]}}
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize("trusted", [False, True])
def test_code_of_a_model_folder_runs_with_the_flag_only(
    trusted: bool, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder("llama"), tmp_path / "teacher"))
    mark = tmp_path / "it ran"
    _with_code(folder, mark)
    if not trusted:  # a tokenizer is all that is run with the flag; these would be refused anyway
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoConfig": "theirs.Tok", "AutoModelForCausalLM": "theirs.Tok"}
        (folder / "config.json").write_text(json.dumps(config))
    try:
        load_teacher(TeacherConfig(source=str(folder), trust_remote_code=trusted))
    except NasError:
        assert not trusted
    assert mark.exists() == trusted


@pytest.mark.parametrize("trusted", [False, True])
def test_code_is_fetched_from_the_hub_with_the_flag_only(
    trusted: bool,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    there = Path(shutil.copytree(tiny_folder("llama"), tmp_path / "there"))
    here, mark = tmp_path / "here", tmp_path / "it ran"
    _with_code(there, mark)

    def download(repo_id: str, *, allow_patterns: list[str], **_: object) -> str:
        here.mkdir(exist_ok=True)
        for path in there.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, here)
        return str(here)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    config = TeacherConfig(source="some/teacher", trust_remote_code=trusted)
    if trusted:
        assert type(load_teacher(config).tokenizer).__name__ == "Tok"
    else:
        with contextlib.suppress(NasError):
            load_teacher(config)
    source_stamp(TeacherConfig(source="a/b", tokenizer="c/d", trust_remote_code=trusted))
    assert (here / "theirs.py").exists() == mark.exists() == trusted


def test_a_message_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Session().warn("a file called \x1b[2J\x9b31m\r\u202egnp.exe: torn\nnext")
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\x9b" not in said
    assert "\u202e" not in said
    assert "\\x1b[2J" in said
    assert said.count("\n") == 2
