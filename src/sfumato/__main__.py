"""``python -m sfumato``: the same as the ``sfumato`` command."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
