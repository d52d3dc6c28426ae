"""Greedy tokens by onnxruntime-genai, in a process of its own.

    python _genai_run.py FOLDER TOKENS < prompt.json      # ids in, the ids that follow out

Stands alone: it imports the runtime and nothing of nas. Ends with 3 where the runtime
does not load.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

try:
    import numpy as np
    import onnxruntime_genai as genai
except (ImportError, OSError) as error:
    print(error, file=sys.stderr)
    sys.exit(3)


def continuation(folder: str, prompt: Sequence[int], tokens: int) -> list[int]:
    """The `tokens` ids that follow `prompt`, or fewer, of which the last ends the text."""
    model = genai.Model(folder)
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + tokens, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.array([prompt], dtype=np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(prompt) :]]


if __name__ == "__main__":
    print(json.dumps(continuation(sys.argv[1], json.load(sys.stdin), int(sys.argv[2]))))
