"""Real agents and ours in one cluster that come, go, die and return: nobody is buried alive, each death is found."""

import faulthandler
import logging
import os
import random

import pytest
import trio

from tests.gossip.live.churn import Churn

pytestmark = [pytest.mark.serf, pytest.mark.integration, pytest.mark.slow]
CHURN_S = float(os.environ.get("ORCA_CHURN_S", "20"))
SEED = int(os.environ.get("ORCA_CHURN_SEED", "1"))


async def test_through_all_coming_and_going_nobody_is_buried_alive() -> None:
    """ORCA_CHURN_S: for how many seconds (1800 for the real thing), ORCA_CHURN_SEED: who and what."""
    faulthandler.dump_traceback_later(CHURN_S + 300.0, exit=True)  # in place of the limit that every test has
    async with trio.open_nursery() as nursery:
        churn = Churn(nursery, random.Random(SEED))
        await churn.run(CHURN_S)
        nursery.cancel_scope.cancel()
    logging.getLogger(__name__).info("seed %d, %g s: %s", SEED, CHURN_S, dict(churn.counts))
    assert churn.counts["sightings of deaths"]
