"""`python -m nas`, which is also what torchrun starts."""

from nas.cli import main

if __name__ == "__main__":
    main()
