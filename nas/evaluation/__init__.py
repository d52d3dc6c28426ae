from nas.evaluation._greedy import greedy_tokens

__all__ = ["greedy_tokens"]
