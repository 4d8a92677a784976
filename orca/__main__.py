"""`python -m orca`: the same as the `orca` command."""

from orca.cli.main import main

if __name__ == "__main__":
    main()
