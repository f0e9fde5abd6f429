"""`python -m jitensor` is the `jitensor` command."""

import sys

from jitensor.cli import main

if __name__ == "__main__":
    sys.exit(main())
