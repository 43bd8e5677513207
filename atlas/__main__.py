"""``python -m atlas``, which is the command ``atlas``."""

from atlas.cli.entry import main

if __name__ == "__main__":
    main()
