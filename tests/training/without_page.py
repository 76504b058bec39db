"""``sfumato`` without the page of a run, which takes longer than what these tests train: a script to start."""

import sys

from sfumato.cli.main import main
from sfumato.runs import training

training.write_report = lambda folder, **_: folder.report

if __name__ == "__main__":
    sys.exit(main())
