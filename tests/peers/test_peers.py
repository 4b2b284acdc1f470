"""Real clients work on the simulator, and ours has every candle right on the same minutes."""

import pytest

from peers.run import OURS, PEERS, is_installed, run
from peers.script import SHORT

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the clients in .venv-peers: make peers-venv")


@pytest.mark.timeout(900)
async def test_clients_work_unmodified_and_ours_has_every_candle(tmp_path):
    outcome = await run(SHORT, tmp_path, print)
    for peer in PEERS:
        theirs = outcome.scores[peer.name]
        assert theirs.missing < theirs.traded, f"{peer.name} has no candle, see {tmp_path}/{peer.script}.log"
    ours = outcome.scores[OURS]
    assert (ours.missing, ours.wrong, ours.invented) == (0, 0, 0), ours.examples
    assert ours.flat == ours.inactive, ours.examples
