"""A writer's messages to itself."""

from memory_broker import MemoryBroker, MemoryBus

from influx_writer import queue_marks
from influx_writer.queue_marks import QueueMarks

TOPIC = "ingress/status/influx-writer/w1/marks"


async def test_marks_that_never_return_are_a_problem_unless_messages_wait_in_front_of_them(monkeypatch):
    monkeypatch.setattr(queue_marks, "_REPEAT_SECONDS", -1.0)
    waiting = True
    async with MemoryBus(MemoryBroker(), client_id="w1") as bus:
        marks = QueueMarks(bus, TOPIC, lambda: waiting)
        await marks.repeat()
        assert marks.problem is None
        await marks.send()
        for _ in range(5):
            await marks.repeat()
        assert marks.problem is None
        waiting = False
        await marks.repeat()
        assert marks.problem is None
        await marks.repeat()
        assert TOPIC in str(marks.problem)
        marks.reconnected()
        assert marks.problem is None


async def test_a_mark_that_returns_ends_the_problem(monkeypatch):
    monkeypatch.setattr(queue_marks, "_REPEAT_SECONDS", -1.0)
    async with MemoryBus(MemoryBroker(), client_id="w1") as bus:
        marks = QueueMarks(bus, TOPIC, lambda: False)
        await marks.send()
        await marks.repeat()
        await marks.repeat()
        assert marks.problem is not None
        assert marks.state == "no message of this writer has returned yet"
        await bus.subscribe(TOPIC)
        await marks.repeat()
        message = await anext(bus.events())
        while not hasattr(message, "payload"):
            message = await anext(bus.events())
        marks.stored(marks.number_of(message))
        assert marks.problem is None
        assert marks.state == "this writer's own messages return"
        assert marks.reached(3)
