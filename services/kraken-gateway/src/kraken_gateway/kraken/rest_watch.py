"""Whether REST responds, known before history is requested."""

import asyncio

from ingress_common.logs import get_logger
from kraken_gateway.kraken.rest import KrakenAilingError, KrakenRest, RestError, UnknownPairError

_PAUSE_SECONDS = 4.0

log = get_logger(__name__)


class RestWatch:
    """Calls REST once no other call had a result for 4 s, or more rarely while Kraken wants fewer calls.

    Any response of Kraken counts, also a refusal of this call.
    """

    def __init__(self, rest: KrakenRest) -> None:
        self._rest = rest
        self._steady = asyncio.get_running_loop().time
        self._problem = ""
        self._since = 0.0

    @property
    def problem(self) -> str:
        """Why REST does not respond; empty if it does."""
        return self._problem

    @property
    def failing(self) -> float:
        """Seconds since the first call without a response began; 0 if the last call had one."""
        return self._steady() - self._since if self._problem else 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._look()

    async def _look(self) -> None:
        began = self._steady()
        problem = "" if began - self._rest.responded_at < _PAUSE_SECONDS else await self._call()
        if problem and not self._problem:
            self._since = began
            log.warning("rest.unreachable", error=problem)
        elif self._problem and not problem:
            log.info("rest.responds")
        self._problem = problem

    async def _call(self) -> str:
        """Call once; returns why there was no response."""
        try:
            await self._rest.time()
        except KrakenAilingError as error:
            return str(error)
        except (RestError, UnknownPairError) as error:
            log.debug("rest.refused", error=str(error))
        return ""
