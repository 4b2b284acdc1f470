"""Asks the store now and then whether it is there, and makes what it needs."""

import asyncio

from ingress_common.health import Check
from ingress_common.logs import get_logger
from ingress_store import BootstrapResult, CandleStore, StoreUnavailableError

_EVERY_SECONDS = 2.0
_PATIENCE_SECONDS = 5.0

log = get_logger(__name__)


class StoreMonitor:
    """Knows whether the store answers; bootstraps it once it does."""

    def __init__(self, store: CandleStore) -> None:
        self._store = store
        self._one_at_a_time = asyncio.Lock()
        self._bootstrapped = False
        self.check = Check("store", ok=False, detail="not asked yet")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._store.ping()
                    if not self._bootstrapped:
                        await self.bootstrap()
            except (StoreUnavailableError, TimeoutError) as error:
                text = str(error) or f"no answer within {_PATIENCE_SECONDS:.0f} s"
                self._note(Check("store", ok=False, detail=text))
            else:
                self._note(Check("store", ok=True, detail=self._store.location))
            await asyncio.sleep(_EVERY_SECONDS)

    async def bootstrap(self) -> BootstrapResult:
        """Make what the store needs, one call at a time; StoreUnavailableError if it does not answer."""
        async with self._one_at_a_time:
            result = await self._store.bootstrap()
        self._bootstrapped = result.state.complete
        for change in result.changes:
            log.info("store.bootstrapped", change=change)
        return result

    def _note(self, check: Check) -> None:
        if check.ok != self.check.ok:
            log.log(20 if check.ok else 30, "store.checked", ok=check.ok, detail=check.detail)
        self.check = check
