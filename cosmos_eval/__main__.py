"""`python -m cosmos_eval` is `cosmos-eval`."""

from cosmos_eval.cli.main import main

if __name__ == "__main__":
    main()
