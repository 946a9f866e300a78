"""`python -m allm_actors` is the command `allm`."""

import sys

from allm_actors.cli import main

if __name__ == "__main__":
    sys.exit(main())
