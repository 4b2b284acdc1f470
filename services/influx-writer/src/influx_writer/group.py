"""The writers among which the broker shares the messages out: who is there, and what an absent one has left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from ingress_common.bus import Bus, BusClosedError, BusError, Connected, Event, Message
from ingress_common.logs import get_logger
from ingress_common.membership import MOST_MEMBERS, SILENT_SECONDS, owner_of
from ingress_common.model import Presence, Status
from ingress_common.payloads import PayloadError, decode_status_on
from ingress_common.topics import Topics

OpenSession = Callable[[str, int], Bus]
"""Makes a bus connection of its own, given the instance whose session it is, and its expiry in seconds (0: none)."""

LEAVING = "leaving"
"""In the details of a writer's status: it is on its way out, and is not to be counted on."""

_LOOK_SECONDS = 0.2
_QUIET_SECONDS = 1.0
_STANDSTILL_SECONDS = 2.0

log = get_logger(__name__)


class Group:
    """The group as its retained status messages tell, and the adoption of abandoned sessions.

    Mosquitto goes on giving an absent member its share (measured with 2.0.11: every other message of two), so the
    session of a writer that does not come back within `grace` seconds would keep candles from the store. Another writer
    then opens that session, ends its subscriptions, hands what has waited to `deliver` and takes the status back. Where
    the absent one returns meanwhile it has its session back, with all that is not acknowledged. `on_rejected` is called
    for a status that makes no sense.
    """

    def __init__(
        self,
        service: str,
        instance: str,
        topics: Topics,
        filters: Sequence[str],
        open_session: OpenSession,
        session_seconds: int,
        deliver: Callable[[Message], Awaitable[None]],
        heard: Callable[[Status], None],
        grace: float,
        on_rejected: Callable[[], None],
        silence: float = SILENT_SECONDS,
    ) -> None:
        self._service = service
        self._me = instance
        self._topics = topics
        self._filters = tuple(filters)
        self._open_session = open_session
        self._session_seconds = session_seconds
        self._deliver = deliver
        self._heard = heard
        self._grace = grace
        self._silence = silence
        self._members: dict[str, Status] = {}
        self._last_word: dict[str, float] = {}
        self._absent: dict[str, float] = {}
        self._i_leave = asyncio.Event()
        self._left_to_others = False
        self._on_rejected = on_rejected

    async def run(self) -> None:
        """Follow the others and adopt what they leave, until cancelled."""
        async with self._open_session(f"{self._me}-group", 0) as bus, asyncio.TaskGroup() as tasks:
            await bus.subscribe(self._topics.status(self._service, "+"))
            tasks.create_task(self._adopt_abandoned(bus), name="writer.adopt")
            async for event in bus.events():
                if isinstance(event, Message):
                    self._take(event)
                    event.ack()
                else:
                    self._was_deaf()

    async def others_stay(self) -> bool:
        """Whether another writer stays when we leave; to be asked after our status has said that we are leaving.

        Of several that leave at once exactly one is told no: the broker puts their words in an order, and who hears his
        own knows all that were said before.
        """
        await self._i_leave.wait()
        return self._left_to_others

    def _take(self, message: Message) -> None:
        instance = message.topic.rpartition("/")[2]
        if not message.payload:
            self._forget(instance)
            return
        try:
            status = decode_status_on(message.topic, message.payload)
            if instance not in self._members and len(self._members) >= MOST_MEMBERS:
                raise PayloadError(f"expected at most {MOST_MEMBERS} writers, got another one")
        except PayloadError as error:
            self._on_rejected()
            log.debug("status.rejected", topic=message.topic, reason=str(error))
            return
        if not message.retain:
            self._heard(status)
        now = asyncio.get_running_loop().time()
        self._members[instance] = status
        if status.state is Presence.ONLINE:
            self._last_word[instance] = now
            self._absent.pop(instance, None)
        else:
            self._last_word.pop(instance, None)
            self._absent.setdefault(instance, now)
        if instance == self._me and status.details.get(LEAVING) and not self._i_leave.is_set():
            # At once: what is said after our own word counts for those who say it.
            self._left_to_others = any(
                other.state is Presence.ONLINE and not other.details.get(LEAVING)
                for name, other in self._members.items()
                if name != self._me and name not in self._absent
            )
            self._i_leave.set()

    def _forget(self, instance: str) -> None:
        for known in (self._members, self._last_word, self._absent):
            known.pop(instance, None)

    def _was_deaf(self) -> None:
        """Nobody could be heard for a while; who is away, and who is back, is known only from now on."""
        now = asyncio.get_running_loop().time()
        self._last_word = dict.fromkeys(self._last_word, now)
        self._absent = dict.fromkeys(self._absent, now)

    def _count_silent_out(self) -> None:
        """A broker that was killed still calls those online that died with it; no last will came."""
        now = asyncio.get_running_loop().time()
        for instance, heard in list(self._last_word.items()):
            if instance != self._me and now - heard > self._silence:
                log.info("member.silent", instance=instance, seconds=round(now - heard))
                del self._last_word[instance]
                self._absent.setdefault(instance, heard)

    def _is_ours(self, abandoned: str) -> bool:
        online = {
            name
            for name, status in self._members.items()
            if status.state is Presence.ONLINE and name not in self._absent
        }
        return owner_of(abandoned, online | {self._me}) == self._me

    async def _adopt_abandoned(self, bus: Bus) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if bus.connected:
                self._count_silent_out()
            for instance, since in list(self._absent.items()):
                if instance == self._me or loop.time() - since < self._grace or not self._is_ours(instance):
                    continue
                if self._absent.get(instance) != since:
                    # Back, while we were busy with another one.
                    continue
                try:
                    emptied = await self._adopt(instance)
                except (BusError, BusClosedError) as error:
                    log.warning("session.not-adopted", instance=instance, reason=str(error))
                    continue
                # One that came back in this moment has said so, and its word stays.
                if emptied and self._absent.get(instance) == since:
                    await bus.publish(self._topics.status(self._service, instance), b"", retain=True)
                    self._forget(instance)
            slept = loop.time()
            await asyncio.sleep(_LOOK_SECONDS)
            if loop.time() - slept > _STANDSTILL_SECONDS:
                # This process was frozen: what the others have said meanwhile has not been read yet.
                self._was_deaf()

    async def _adopt(self, instance: str) -> bool:
        """Empty the session of `instance`; False if its owner came back meanwhile, who then is not to be disturbed."""
        loop = asyncio.get_running_loop()
        since = self._absent[instance]
        waiting: set[int] = set()
        taken = 0
        async with self._open_session(instance, self._session_seconds) as bus:
            events = bus.events()
            if not await _session_is_there(events):
                log.info("session.nothing-left", instance=instance)
                return True
            # The bus ends subscriptions that it has made itself; making one again changes nothing.
            await bus.subscribe(*self._filters)
            await bus.unsubscribe(*self._filters)
            heard = loop.time()
            while self._absent.get(instance) == since:
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        event = await anext(events)
                except TimeoutError:
                    if not waiting and loop.time() - heard >= _QUIET_SECONDS:
                        log.info("session.adopted", instance=instance, messages=taken)
                        return True
                    continue
                heard = loop.time()
                if isinstance(event, Message):
                    taken += 1
                    waiting.add(taken)
                    await self._hand_over(replace(event, ack=_counted(event, waiting, taken)), instance, since)
                else:
                    # What was not acknowledged on the connection before comes again on this one.
                    waiting.clear()
        return False

    async def _hand_over(self, message: Message, instance: str, since: float) -> None:
        """Deliver, which takes as long as the store is away, unless the owner comes back."""
        while self._absent.get(instance) == since:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._deliver(message)
                    return
            except TimeoutError:
                continue


async def _session_is_there(events: AsyncIterator[Event]) -> bool:
    """What the broker says first: whether it has kept the session."""
    first = await anext(events)
    return not isinstance(first, Connected) or first.session_kept


def _counted(message: Message, waiting: set[int], number: int) -> Callable[[], None]:
    def ack() -> None:
        waiting.discard(number)
        message.ack()

    return ack
