"""Write all transcripts anew, or those named: `python -m tests.consensus.transcripts [NAME ...]`."""

import sys
from pathlib import Path

from tests.consensus.transcripts.runner import play

for path in sorted(Path(__file__).parent.glob("*.txt")):
    if not sys.argv[1:] or path.stem in sys.argv[1:]:
        path.write_text(play(path)[1])
