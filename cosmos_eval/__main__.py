"""Entry point of `python -m cosmos_eval`, the same as the command `cosmos-eval`."""

from cosmos_eval.cli.main import main

if __name__ == "__main__":
    main()
