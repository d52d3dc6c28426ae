"""Every proxy against the same number reckoned another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import ConfigError
from nas.networks import ImageNetwork
from nas.proxies import (
    AutoDistil,
    AutoDistilMse,
    Batch,
    TeacherView,
    Trial,
    ZiCo,
    create_proxy,
)
from tests.proxies.networks import (
    Deaf,
    Plain,
    SmallNetwork,
    TinyEncoder,
    builder,
    encoder_trial,
    pictures,
    teacher,
    tokens,
    trial,
)


def plain(samples: int = 6) -> tuple[Trial, np.ndarray, np.ndarray, np.ndarray]:
    """A trial of `Plain` with its pictures as [N, 3, pixels] and both weights, in numpy."""
    batch = pictures(samples)
    network = builder(Plain)(0)
    convolution = network.conv.weight.detach().numpy()[:, :, 0, 0].astype(np.float64)
    head = network.head.weight.detach().numpy().astype(np.float64)
    images = batch.inputs.flatten(2).numpy().astype(np.float64)
    return Trial(builder(Plain), batch, teacher(batch, width=5)), images, convolution, head


def normal_weights(classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a trial's generator gives a `Plain` network: N(0, 1), convolution before head."""
    generator = torch.Generator().manual_seed(seed)
    convolution = torch.empty(5, 3, 1, 1).normal_(generator=generator)[:, :, 0, 0]
    head = torch.empty(classes, 5).normal_(generator=generator)
    return convolution.double().numpy(), head.double().numpy()


def hidden(images: np.ndarray, convolution: np.ndarray) -> np.ndarray:
    return np.maximum(np.einsum("oc,ncp->nop", convolution, images), 0)


def loss_gradients(
    images: np.ndarray, convolution: np.ndarray, head: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean cross-entropy of `Plain`, by hand."""
    features = hidden(images, convolution)
    pooled = features.mean(axis=2)
    logits = pooled @ head.T
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    error = (chances - np.eye(head.shape[0])[labels]) / len(labels)
    back = (error @ head)[:, :, None] * (features > 0) / features.shape[2]
    return np.einsum("nop,ncp->oc", back, images), error.T @ pooled


def labels_of(batch: Batch) -> np.ndarray:
    return batch.labelled().numpy()


def score(name: str, given: Trial) -> float:
    return create_proxy(name).score(given)


def test_sizes_by_hand() -> None:
    given = trial(width=6, blocks=2, classes=4)

    # Stem 3-6, two blocks 6-6, norms of 6 twice over, head 6-4 with bias.
    assert score("params", given) == 3 * 6 * 9 + 2 * 6 * 6 * 9 + 3 * 12 + 6 * 4 + 4
    # Pictures of 8 x 8; the last block works on 4 x 4.
    assert score("flops", given) == 162 * 64 + 324 * 64 + 324 * 16 + 24
    assert score("depth", given) == 4


class Branches(ImageNetwork):
    """Two branches of two and three convolutions; a third of five is multiplied by zero."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long, self.dead = (
            nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(n))) for n in (2, 3, 5)
        )
        self.head = nn.Linear(3, 4)

    def features(self, images: Tensor) -> Tensor:
        return self.short(images) + self.long(images) + 0.0 * self.dead(images)


def test_depth_and_live_parameters_leave_dead_branches_out() -> None:
    given = trial(Branches)

    assert score("depth", given) == 3 + 1
    assert score("params", given) == 10 * 9 + 16
    assert score("live_params", given) == 5 * 9 + 16


def test_diswot_relation_by_hand() -> None:
    given, images, _, _ = plain()
    features = hidden(images, normal_weights()[0]).reshape(len(images), -1)
    own = features @ features.T
    theirs = given.followed().features.flatten(1).double().numpy()
    other = theirs @ theirs.T
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)

    expected = -((own - other) ** 2).sum() / len(images) ** 2

    assert score("diswot_relation", given) == pytest.approx(expected, rel=1e-4)


def test_diswot_semantic_by_hand() -> None:
    """The paper's C x C matrices are written out here; the proxy uses that they have rank one."""
    given, images, _, _ = plain()
    labels = labels_of(given.batch)
    _, own = loss_gradients(images, *normal_weights(), labels)
    network = given.followed().network
    assert isinstance(network, ImageNetwork)
    network.zero_grad()
    with torch.no_grad():
        features = network.features(given.batch.inputs)
    functional.cross_entropy(network.head(features.mean(dim=(2, 3))), given.batch.labels).backward()
    assert network.head.weight.grad is not None
    other = network.head.weight.grad.double().numpy()

    distances = []
    for g, t in zip(own, other, strict=True):
        mine, theirs = np.outer(g, g), np.outer(t, t)
        mine /= np.maximum(np.linalg.norm(mine, axis=1, keepdims=True), 1e-300)
        theirs /= np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1e-300)
        distances.append(((mine - theirs) ** 2).sum() / len(g))

    assert score("diswot_semantic", given) == pytest.approx(-np.mean(distances), rel=1e-4)
    both = score("diswot_semantic", given) + score("diswot_relation", given)
    assert score("diswot", given) == pytest.approx(both, rel=1e-9)


def test_diswot_semantic_is_undefined_for_other_widths() -> None:
    assert math.isnan(score("diswot_semantic", trial(width=8)))
    assert math.isfinite(score("diswot_relation", trial(width=8)))


def test_nwot_by_hand() -> None:
    given, images, convolution, _ = plain()
    codes = (hidden(images, convolution) > 0).reshape(len(images), -1).astype(int)
    kernel = [[(a == b).sum() for b in codes] for a in codes]

    _, expected = np.linalg.slogdet(np.array(kernel, dtype=float))

    assert score("nwot", given) == pytest.approx(expected, rel=1e-9)


def test_nwot_is_undefined_where_two_samples_fire_alike() -> None:
    inputs = pictures(4).inputs
    twice = Batch(torch.cat([inputs, inputs[:1]]))

    assert math.isnan(score("nwot", Trial(builder(Plain), twice)))


def test_jacov_by_hand() -> None:
    given, images, convolution, head = plain()
    on = hidden(images, convolution) > 0
    back = head.sum(axis=0)[None, :, None] * on / images.shape[2]
    rows = np.einsum("nop,oc->ncp", back, convolution).reshape(len(images), -1)
    values = np.linalg.eigvalsh(np.corrcoef(rows))

    expected = -(np.log(values + 1e-5) + 1 / (values + 1e-5)).sum()

    assert score("jacov", given) == pytest.approx(expected, rel=1e-3)


def test_synflow_by_hand() -> None:
    given, _, convolution, head = plain()
    # The summed logits for ones are linear in each of the two weights, so each gives R once.
    flow = (np.abs(head) @ np.abs(convolution).sum(axis=1)).sum()

    assert score("synflow", given) == pytest.approx(math.log1p(2 * flow), rel=1e-6)


def test_synflow_looks_at_no_data() -> None:
    build = builder(SmallNetwork)
    one, other = (Trial(build, pictures(seed=seed)) for seed in (1, 2))

    assert score("synflow", one) == score("synflow", other)


def test_snip_and_grad_norm_by_hand() -> None:
    given, images, convolution, head = plain()
    by_convolution, by_head = loss_gradients(images, convolution, head, labels_of(given.batch))
    snip = np.abs(convolution * by_convolution).sum() + np.abs(head * by_head).sum()
    norms = np.linalg.norm(by_convolution) + np.linalg.norm(by_head)

    assert score("snip", given) == pytest.approx(snip, rel=1e-4)
    assert score("grad_norm", given) == pytest.approx(norms, rel=1e-4)


def test_zico_by_hand() -> None:
    given, images, convolution, head = plain()
    labels = labels_of(given.batch)
    parts = [
        loss_gradients(images[rows], convolution, head, labels[rows])
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6))
    ]
    expected = 0.0
    for layer in zip(*parts, strict=True):
        sizes = np.abs(np.stack(layer))
        moved = sizes.std(axis=0) > 0
        ratios = sizes.mean(axis=0)[moved] / sizes.std(axis=0)[moved]
        expected += np.log(ratios.sum())

    assert ZiCo(batches=3).score(given) == pytest.approx(expected, rel=1e-3)


def test_zen_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    stem = torch.empty(6, 3, 3, 3).normal_(generator=generator)
    body = torch.empty(6, 6, 3, 3).normal_(generator=generator)
    torch.empty(4, 6).normal_(generator=generator)
    x = torch.randn(8, 3, 8, 8, generator=generator)
    moved = x + 0.01 * torch.randn(8, 3, 8, 8, generator=generator)

    def normed(state: Tensor) -> tuple[Tensor, float]:
        spread, mean = torch.var_mean(state, dim=(0, 2, 3), correction=0, keepdim=True)
        return (state - mean) / (spread + 1e-5).sqrt(), float(spread.mean())

    def features(images: Tensor) -> tuple[Tensor, list[float]]:
        first, a = normed(functional.conv2d(images, stem, padding=1))
        first = first.relu()
        second, b = normed(functional.conv2d(first, body, stride=2, padding=1))
        return (first[:, :, ::2, ::2] + second).relu(), [a, b]

    before, spreads = features(x)
    distance = (before - features(moved)[0]).flatten(1).norm(dim=1).mean()
    expected = math.log(float(distance)) + sum(math.log(math.sqrt(v)) for v in spreads)

    assert score("zen", trial(blocks=1)) == pytest.approx(expected, rel=1e-4)


def test_expressivity_and_progressivity_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 3, 8, 8, generator=generator)
    network = builder(SmallNetwork, blocks=3)(0).train()
    entropies = []
    with torch.no_grad():
        state = functional.relu(network.norm(network.stem(inputs)))
        for block in network.blocks:
            state = block(state)
            points = state.permute(0, 2, 3, 1).reshape(-1, 6).double().numpy()
            values = np.linalg.eigvalsh(np.cov(points.T, bias=True))
            shares = values[values > 1e-12] / values.sum()
            entropies.append(-(shares * np.log(shares)).sum())

    given = trial(blocks=3)
    assert score("expressivity", given) == pytest.approx(sum(entropies), rel=1e-4)
    steps = np.diff(entropies)
    assert score("progressivity", given) == pytest.approx(steps.min(), abs=1e-5)


def test_trainability_of_a_block_that_scales_is_known() -> None:
    """A block x -> a x has the Jacobian a, so its spectral norm is near a."""

    class Scale(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor, self.part = factor, nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.part(x) * self.factor

    class Scaled(ImageNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Scale(1.0), Scale(0.5))
            self.head = nn.Linear(3, 4)

        def features(self, images: Tensor) -> Tensor:
            return self.blocks(images)

    batch = pictures(samples=64)
    found = score("trainability", Trial(builder(Scaled), batch))

    # E[r r'] is the identity up to sampling over 64 x 64 places.
    assert found == pytest.approx(2 - 0.5 - 1 / 0.5, abs=0.1)


def test_teacher_cka_by_hand() -> None:
    given, images, convolution, _ = plain()
    features = hidden(images, convolution).reshape(len(images), -1)
    theirs = given.followed().features.flatten(1).double().numpy()
    n = len(images)

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        """U-statistic over distinct indices, as its definition has it."""
        total = 0.0
        for i in range(n):
            for j in range(n):
                if j != i:
                    total += k[i, j] * m[i, j] / (n * (n - 1))
        for i in range(n):
            for j in range(n):
                for q in range(n):
                    if len({i, j, q}) == 3:
                        total -= 2 * k[i, j] * m[i, q] / (n * (n - 1) * (n - 2))
                    for r in range(n):
                        if len({i, j, q, r}) == 4:
                            ways = n * (n - 1) * (n - 2) * (n - 3)
                            total += k[i, j] * m[q, r] / ways
        return total

    k, m = features @ features.T, theirs @ theirs.T
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))

    assert score("teacher_cka", given) == pytest.approx(expected, rel=1e-3)


class Turned(ImageNetwork):
    """`Plain` whose features are rotated, scaled, shifted and written twice: another basis."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Plain()
        turn, _ = torch.linalg.qr(torch.randn(5, 5))
        self.turn = turn
        self.head = nn.Linear(10, 4)

    def features(self, images: Tensor) -> Tensor:
        turned = torch.einsum("oc,nchw->nohw", self.turn, self.inner.features(images))
        return 3 * torch.cat([turned, turned], dim=1) + 1


def test_teacher_cka_is_free_of_basis_width_scale_and_shift() -> None:
    batch = pictures()
    view = teacher(batch)
    one, other = (Trial(builder(kind), batch, view) for kind in (Plain, Turned))

    expected = score("teacher_cka", one)
    assert score("teacher_cka", other) == pytest.approx(expected, rel=1e-4)


def test_teacher_cka_wants_four_samples() -> None:
    batch = pictures(3, classes=3)
    with pytest.raises(ConfigError, match="at least 4 samples; a batch of 3"):
        score("teacher_cka", Trial(builder(Plain), batch, teacher(batch)))


def test_teacher_cka_with_itself_is_one() -> None:
    batch = pictures()
    build = builder(Plain)
    assert score("teacher_cka", Trial(build, batch, TeacherView(build(0), batch))) == pytest.approx(
        1
    )


def test_pixel_gram_is_the_relation_to_the_pixels() -> None:
    class Eye(ImageNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)

        def features(self, images: Tensor) -> Tensor:
            return images

    batch = pictures()
    follow_pixels = TeacherView(builder(Eye)(0), batch)
    expected = score("diswot_relation", Trial(builder(Plain), batch, follow_pixels))

    assert score("pixel_gram", Trial(builder(Plain), batch)) == expected
    assert score("pixel_gram", Trial(builder(Eye), batch)) == 0


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_autodistil_by_hand() -> None:
    given = encoder_trial(width=24)
    ids = given.batch.inputs
    network, follows = given.network(), given.followed().network
    kl, mse = 0.0, 0.0
    with torch.no_grad():
        pairs = list(
            zip(network.attention_vectors(ids), follows.attention_vectors(ids), strict=True)
        )
    for own, other in pairs:
        mine, theirs = own.double().numpy(), other.double().numpy()
        for head in range(12):
            s, t = mine[..., 2 * head : 2 * head + 2], theirs[..., 3 * head : 3 * head + 3]
            s = s @ s.transpose(0, 2, 1) / math.sqrt(2)
            t = t @ t.transpose(0, 2, 1) / math.sqrt(3)
            p, q = softmax(t), softmax(s)
            kl += (p * np.log(p / q)).sum(axis=-1).mean() / 12
            mse += ((s - t) ** 2).mean() / 12

    assert AutoDistil().score(given) == pytest.approx(-kl, rel=1e-4)
    assert AutoDistilMse().score(given) == pytest.approx(-mse, rel=1e-4)


def test_autodistil_takes_widths_that_its_heads_do_not_divide() -> None:
    """13 numbers in 12 parts: the first part has two of them."""
    given = encoder_trial(width=13)
    with torch.no_grad():
        queries, _, _ = given.network().attention_vectors(given.batch.inputs)
    from nas.proxies._autodistil import relations

    found = relations(queries, 12)

    assert len(found) == 12
    first = queries[..., :2]
    assert torch.allclose(found[0], first @ first.transpose(1, 2) / math.sqrt(2))
    last = queries[..., 12:]
    assert torch.allclose(found[-1], last @ last.transpose(1, 2))


def test_autodistil_is_highest_for_the_teacher_itself() -> None:
    batch = tokens()
    build = builder(TinyEncoder)
    same = Trial(build, batch, TeacherView(build(0), batch), seed=0)
    other = Trial(build, batch, TeacherView(build(0), batch), seed=1)

    assert AutoDistil().score(same) == pytest.approx(0, abs=1e-6)
    assert AutoDistil().score(other) < -1e-4


def test_a_network_that_ignores_its_input_has_no_flow() -> None:
    deaf = trial(Deaf)

    assert score("synflow", deaf) == 0
    assert score("live_params", deaf) == 0
    assert all(math.isnan(score(name, deaf)) for name in ("jacov", "zen", "teacher_cka", "zico"))
