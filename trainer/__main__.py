"""`python -m trainer` is `headway`."""

import sys

from trainer.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
