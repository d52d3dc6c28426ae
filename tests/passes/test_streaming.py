"""A teacher of which one slot is in memory gives what the whole teacher gives, byte for byte."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from nas import _memory
from nas.chain import DecoderChain
from nas.compiler import compile_run
from nas.config import RunConfig, TeacherConfig
from nas.errors import CapabilityError, ConfigError, PassError
from nas.executors import ProcessPool
from nas.passes import Artefacts
from nas.passes.draft import Drafts
from nas.passes.prune import one_backward_of_drafts
from nas.passes.refine import Moves
from nas.passes.score import library_network
from nas.passes.solve import make_problem
from nas.passes.swaps import Swaps
from nas.run import RunDirectory
from nas.streaming import StreamedChain, mapped_like
from nas.teachers import load_teacher
from tests.chaos.harness import contents
from tests.models import save_tiny_teacher


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _loaded(folder: Path, *, stream: bool, dtype: str = "float32") -> DecoderChain:
    config = TeacherConfig.model_validate({"source": str(folder), "stream": stream, "dtype": dtype})
    return load_teacher(config).chain


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_streamed_chain_computes_the_same(
    family: str, dtype: str, tiny_folder: Callable[[str], Path]
) -> None:
    streamed = _loaded(tiny_folder(family), stream=True, dtype=dtype)
    whole = _loaded(tiny_folder(family), stream=False, dtype=dtype)
    assert isinstance(streamed, StreamedChain)
    ids = torch.arange(24).reshape(2, 12)
    assert torch.equal(streamed(ids), whole(ids))
    fast, fast_whole = (chain.in_dtype(torch.bfloat16) for chain in (streamed, whole))
    assert torch.equal(fast(ids), fast_whole(ids))
    again = streamed.whole()
    assert type(again) is DecoderChain
    assert again.state_dict().keys() == whole.state_dict().keys()
    for name, weight in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_one_slot_is_held(tiny_folder: Callable[[str], Path]) -> None:
    chain = _loaded(tiny_folder("llama"), stream=True)
    for k in range(len(chain.slots)):
        for weight in chain.slot(k).parameters():
            assert not weight.is_meta
        assert chain.slot(k) is chain.slot(k)
    assert all(weight.is_meta for weight in chain.slots.parameters())


def test_what_is_missing_is_told_before_any_slot_is_read(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_tiny_teacher(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    down = weights.pop("model.layers.1.mlp.down_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack model\.layers\.1\.mlp\.down_proj"):
        _loaded(tmp_path, stream=True)
    save_file({**weights, "strange": down}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="lack"):
        _loaded(tmp_path, stream=True)
    whole = {**weights, "model.layers.1.mlp.down_proj.weight": down}
    save_file({**whole, "strange": down.clone()}, tmp_path / "model.safetensors")
    with pytest.raises(CapabilityError, match="hold strange"):
        _loaded(tmp_path, stream=True)
    short = {**whole, "model.layers.1.mlp.down_proj.weight": down[1:].clone()}
    save_file(short, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"slots\.3\.branch\.down_proj\.weight has shape"):
        _loaded(tmp_path, stream=True).slot(3)


def test_it_streams_where_the_weights_exceed_the_memory(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TeacherConfig(source=str(tiny_folder("llama")))
    assert config.stream == "auto"
    assert not isinstance(load_teacher(config).chain, StreamedChain)
    monkeypatch.setattr("nas.teachers._teacher.memory_at_hand", lambda device: 50_000)
    assert isinstance(load_teacher(config).chain, StreamedChain)


def test_a_limit_of_the_process_counts_as_memory() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    free = _memory.memory_at_hand()
    taken = _memory._data_bytes()
    assert taken > 2**20
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (taken + 2**28, before[1]))
        assert _memory.memory_at_hand() <= min(free, 2**28)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_mapped_arrays(tmp_path: Path) -> None:
    x = torch.randn(3, 4).T
    mapped = mapped_like(x, tmp_path).copy_(x)
    assert torch.equal(mapped, x)
    assert mapped_like(x, tmp_path, torch.bfloat16).dtype == torch.bfloat16
    assert list(tmp_path.iterdir()) == []
    assert mapped_like(x, None).shape == x.shape
    with pytest.raises(PassError, match="cannot write"):
        mapped_like(x, tmp_path / "absent")


@pytest.mark.parametrize(
    "score", [{"method": "replace_one", "batch_sequences": 2}, {"method": "one_backward"}]
)
def test_a_run_has_the_same_bytes(
    score: dict[str, object], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Every pass, in process; then the passes that workers do, with workers."""
    for name, stream in (("whole", False), ("streamed", True), ("elsewhere", True)):
        config = small_config(
            teacher={"stream": stream}, score=score, build={"tokens": 960, "epochs": 1}
        )
        run = RunDirectory.create(tmp_path / name)
        elsewhere = name == "elsewhere"
        executor = ProcessPool(1, threads=1) if elsewhere else None
        compile_run(config, run, stop="score" if elsewhere else None, executor=executor)
    whole, streamed, elsewhere = (
        _without_config(contents(tmp_path / name)) for name in ("whole", "streamed", "elsewhere")
    )
    assert any(name.startswith("library/") for name in whole)
    assert streamed == whole
    scores = {name for name in whole if name.startswith(("library/", "scores/"))}
    assert scores <= elsewhere.keys()
    assert all(elsewhere[name] == whole[name] for name in scores)


@pytest.mark.parametrize("part", ["prune", "refine", "swaps", "race"])
def test_states_of_all_slots_lie_in_the_run(
    part: str,
    artefacts: Callable[..., Artefacts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders: list[Path | None] = []

    def noted(like: torch.Tensor, folder: Path | None, *rest: torch.dtype) -> torch.Tensor:
        folders.append(folder)
        return mapped_like(like, folder, *rest)

    sections = {"teacher": {"stream": True}, "baselines": []}
    if part == "prune":
        view = artefacts(**sections, prune={"keep": 0.9, "trials": 0.1, "draws": 1})
        drafts = Drafts(view.context)
        drafts.make(view.space)
        monkeypatch.setattr("nas.sensitivity._slotwise.mapped_like", noted)
        one_backward_of_drafts(view.context, view.space, drafts)
    elif part == "swaps":
        view = artefacts(**sections)
        network = partial(library_network, view.context)
        swaps = Swaps(view.context, "block", view.space, view.block_keys, network)
        monkeypatch.setattr("nas.passes.score.mapped_like", noted)
        swaps([view.space[0].id])
    elif part == "race":
        view = artefacts(**sections, score={"until_certain": True})
        view.block_keys  # noqa: B018
        monkeypatch.setattr("nas.passes.score.mapped_like", noted)
        view.scores  # noqa: B018
    else:
        view = artefacts(**sections, refine={"rounds": 1, "radius": 2, "draws": 1})
        problem = make_problem(view.context, view.costs, view.candidates, view.scores)
        moves = Moves(view.context, problem, view.candidates, view.solution)
        monkeypatch.setattr("nas.sensitivity._slotwise.mapped_like", noted)
        moves.expand(view.solution.choice, 0)
    assert set(folders) == {view.context.run.root}


def _without_config(files: dict[str, str]) -> dict[str, str]:
    """Reports tell of times, and the configuration says whether the teacher is streamed."""
    return {
        name: digest
        for name, digest in files.items()
        if not name.startswith(("report/", "units/report", "config", "measured", "units/profile"))
    }
