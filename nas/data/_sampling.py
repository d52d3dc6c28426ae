"""Text sampled from the teacher: more training tokens of the kind it knows best."""

from __future__ import annotations

import torch
from torch import Tensor

from nas._numerics import compute_dtype
from nas.chain import DecoderChain
from nas.config import TeacherSamplesText
from nas.errors import ConfigError
from nas.progress import Progress
from nas.teachers import Teacher


def sample_windows(
    config: TeacherSamplesText, teacher: Teacher, train: Tensor, seed: int, progress: Progress
) -> Tensor:
    """Windows [n, tokens] of at least `config.tokens` sampled tokens, prompts included.

    `train` [windows, tokens] are the training windows; prompts come from nowhere else. Equal seeds
    give equal text on the same processor.
    """
    length = train.shape[1]
    count = sampled_windows(config, length)
    generator = torch.Generator().manual_seed(seed)
    prompts = _prompts(config, teacher, train, count, generator)
    chain = _fast(writer(teacher))
    windows = []
    with progress.task("sampling text from the teacher", count) as advance:
        for start in range(0, count, config.batch):
            batch = prompts[start : start + config.batch]
            windows.append(continued(chain, batch, length, config.temperature, generator))
            advance(len(batch))
    return torch.cat(windows)


def writer(teacher: Teacher) -> DecoderChain:
    """The teacher's chain; raises ConfigError for one that writes no text."""
    if not isinstance(teacher.chain, DecoderChain):
        raise ConfigError(
            f"data.sources: a {teacher.shape.family} writes no text; remove teacher_samples"
        )
    return teacher.chain


def sampled_windows(config: TeacherSamplesText, length: int) -> int:
    """How many windows of `length` tokens are sampled; raises ConfigError where prompts leave
    nothing of them to sample."""
    if config.prompt_tokens >= length:
        raise ConfigError(
            f"data.sources: teacher_samples.prompt_tokens {config.prompt_tokens} leaves nothing to "
            f"sample in a window of {length}; lower it or raise data.sequence_length"
        )
    return -(-config.tokens // length)


@torch.inference_mode()
def continued(
    chain: DecoderChain,
    prompts: Tensor,
    length: int,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """`prompts` [batch, prompt] sampled on to [batch, length]; a text that ends starts another."""
    device = chain.device
    ids = prompts.to(device)
    mask = torch.ones(len(ids), length, dtype=torch.long, device=device)
    past = chain.empty_cache(len(ids))
    steps = [ids]
    for at in range(ids.shape[1], length):
        logits, past = chain.forward_cached(steps[-1], mask[:, :at], past)
        steps.append(_draw(logits[:, -1].float() / temperature, generator))
    return torch.cat(steps, dim=1).cpu()


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token [batch, 1] a row by inverting the cumulative distribution.

    `multinomial` would draw a random number for every token of the vocabulary.
    """
    summed = torch.softmax(logits, dim=-1).cumsum(-1)
    point = torch.rand(len(logits), 1, generator=generator).to(logits.device) * summed[:, -1:]
    return torch.searchsorted(summed, point, right=True).clamp(max=logits.shape[-1] - 1)


def _prompts(
    config: TeacherSamplesText,
    teacher: Teacher,
    train: Tensor,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """Openings [count, tokens]: pieces of training windows, or the beginning-of-text token."""
    if config.prompt_tokens == 0:
        return torch.full((count, 1), _beginning(teacher))
    rows = torch.randint(len(train), (count, 1), generator=generator)
    last = train.shape[1] - config.prompt_tokens
    starts = torch.randint(last + 1, (count, 1), generator=generator)
    return train[rows, starts + torch.arange(config.prompt_tokens)]


def _beginning(teacher: Teacher) -> int:
    tokenizer = teacher.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ConfigError(
        "data.sources: the teacher's tokenizer has no beginning-of-text token to sample from; "
        "set teacher_samples.prompt_tokens to 1 or more"
    )


def _fast(chain: DecoderChain) -> DecoderChain:
    """The chain in the number format that the processor multiplies fastest.

    A converted copy, since autocast would convert frozen weights anew for every token.
    """
    weight = chain.norm.weight
    dtype = compute_dtype(str(weight.device))
    if weight.dtype == torch.float32 and dtype != torch.float32:
        return chain.in_dtype(dtype)
    return chain
