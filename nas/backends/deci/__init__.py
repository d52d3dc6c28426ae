"""The DeciLM layout, for servers that know layers of unlike sizes: vLLM and llama.cpp.

    export_decilm(chain, tokenizer, folder)     # vllm serve FOLDER --trust-remote-code
    check_decilm(folder, chain, ids)            # read back, by a reader of our own
    export_gguf(chain, path, name="student", vocabulary=...)
    check_gguf(path, chain, ids)                # in llama.cpp itself

A student that the layout has no words for is refused, with the reason.
"""

from nas.backends.deci._folder import export_decilm
from nas.backends.deci._gguf import export_gguf, written_layers
from nas.backends.deci._layout import DeciLayer, deci_layers, require_llama_cpp, require_vllm
from nas.backends.deci._llama_cpp import LlamaCpp, check_gguf, llama_cpp_is_here, reads_alike
from nas.backends.deci._reader import DeciLM, check_decilm
from nas.backends.deci._vocabulary import Fields, of_file, of_tokenizer

__all__ = [
    "DeciLM",
    "DeciLayer",
    "Fields",
    "LlamaCpp",
    "check_decilm",
    "check_gguf",
    "deci_layers",
    "export_decilm",
    "export_gguf",
    "llama_cpp_is_here",
    "of_file",
    "of_tokenizer",
    "reads_alike",
    "require_llama_cpp",
    "require_vllm",
    "written_layers",
]
