"""What every proxy must do, whichever it is."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import ConfigError
from nas.proxies import (
    Proxy,
    Trial,
    create_proxy,
    describe_proxies,
    evaluate,
    list_proxies,
)
from tests.proxies.networks import Cut, Deaf, SmallNetwork, encoder_trial, trial


@pytest.fixture(params=list_proxies())
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return create_proxy(request.param)


def suited(proxy: Proxy, seed: int = 0) -> Trial:
    """A trial with what the proxy says that it needs, and no more."""
    given = encoder_trial(seed=seed) if proxy.name.startswith("autodistil") else trial(seed=seed)
    batch = given.batch
    if "labels" not in proxy.needs:
        batch = replace(batch, labels=None)
    return replace(given, batch=batch, teacher=given.teacher if "teacher" in proxy.needs else None)


def test_needs_no_more_than_it_says(proxy: Proxy) -> None:
    assert math.isfinite(proxy.score(suited(proxy)))


def test_says_what_is_missing(proxy: Proxy) -> None:
    given = suited(proxy)
    without = {
        "teacher": replace(given, teacher=None),
        "labels": replace(given, batch=replace(given.batch, labels=None)),
    }
    if given.teacher is not None:
        # The teacher's view holds a batch of its own.
        view = type(given.teacher)(given.teacher.network, replace(given.batch, labels=None))
        without["labels"] = replace(without["labels"], teacher=view)
    for need in proxy.needs & without.keys():
        with pytest.raises(ConfigError, match=need):
            proxy.score(without[need])


@pytest.mark.parametrize("network", [Cut, Deaf])
def test_a_network_without_a_path_gets_a_number_or_none(
    proxy: Proxy, network: type[nn.Module]
) -> None:
    if not proxy.name.startswith("autodistil"):
        assert not math.isinf(proxy.score(trial(network)))


def test_is_deterministic_whatever_ran_before(proxy: Proxy) -> None:
    first = proxy.score(suited(proxy))
    torch.rand(3)
    np.random.random(3)

    assert proxy.score(suited(proxy)) == first


def test_changes_nothing_outside(proxy: Proxy) -> None:
    given = suited(proxy)
    inputs = given.batch.inputs.clone()
    follows = None if given.teacher is None else given.teacher.network
    states = {} if follows is None else deepcopy(follows.state_dict())
    torch.manual_seed(3)
    mode = follows is not None and follows.training
    random, other = torch.get_rng_state(), np.random.get_state()[1].copy()

    proxy.score(given)

    assert torch.equal(torch.get_rng_state(), random)
    assert np.array_equal(np.random.get_state()[1], other)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(given.batch.inputs, inputs)
    assert not given.batch.inputs.requires_grad
    assert given.batch.inputs.grad is None
    if follows is not None:
        assert all(p.grad is None for p in follows.parameters())
        assert all(torch.equal(value, states[name]) for name, value in follows.state_dict().items())
        assert follows.training == mode


def test_scores_the_same_without_gradients_around_it(proxy: Proxy) -> None:
    expected = proxy.score(suited(proxy))
    with torch.no_grad():
        assert proxy.score(suited(proxy)) == expected


def test_two_scores_share_nothing(proxy: Proxy) -> None:
    """One network after another is scored as each is alone."""
    alone = [proxy.score(suited(proxy, seed)) for seed in (0, 1)]
    table = evaluate([proxy], {str(seed): [suited(proxy, seed)] for seed in (0, 1)})

    assert table.column(proxy.name) == alone


def test_has_a_card(proxy: Proxy) -> None:
    card = next(card for card in describe_proxies() if card.name == proxy.name)

    assert card.source == proxy.source != ""
    assert set(card.needs) == proxy.needs
    assert card.cost in ("count", "forward", "backward", "training")


def test_is_for_the_networks_that_it_says(proxy: Proxy) -> None:
    given = encoder_trial() if proxy.over != "tokens" else trial()
    if proxy.over is None:
        assert math.isfinite(proxy.score(given))
        return
    with pytest.raises(ConfigError, match="pictures" if proxy.over == "pictures" else "keys"):
        proxy.score(given)


def test_relations_want_an_encoder() -> None:
    with pytest.raises(ConfigError, match=f"{SmallNetwork.__name__} has no attention_vectors"):
        create_proxy("autodistil").score(trial())


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'synflow'"):
        create_proxy("sinflow")
