"""Code that travels with an exported student. It needs torch and transformers alone, never nas."""
