"""Stories of several nodes, each told whole: who says what to whom, and what comes of it.

After a change that is meant, `python -m tests.consensus.transcripts` writes them anew; read the difference.
"""

from pathlib import Path

import pytest

from tests.consensus.transcripts.runner import play

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_nodes_say_what_the_transcript_says(path: Path) -> None:
    expected, said = play(path)
    assert said == expected


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 10
