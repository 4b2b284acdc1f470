from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common.membership import MAXIMUM_MEMBERS, TAKEOVER_SECONDS, Members, owner_of
from ingress_common.model import InstanceState, Status
from ingress_common.topics import Topics

names = st.text(st.characters(min_codepoint=33, max_codepoint=122), min_size=1, max_size=12)
groups = st.sets(names, min_size=1, max_size=6)


def status(instance: str, state: InstanceState = InstanceState.ONLINE, service: str = "aggregator") -> Status:
    return Status(service, instance, state, "1.0", 0.0)


@given(names, groups)
def test_owner_is_a_member_whatever_the_order(key, members):
    owner = owner_of(key, sorted(members))
    assert owner in members
    assert owner == owner_of(key, sorted(members, reverse=True))


@given(names, groups, names)
def test_joining_member_takes_keys_only_for_itself(key, members, newcomer):
    before, after = owner_of(key, members), owner_of(key, members | {newcomer})
    assert after in (before, newcomer)


@given(names, st.sets(names, min_size=2, max_size=6))
def test_leaving_member_moves_only_its_own_keys(key, members):
    owner = owner_of(key, members)
    for other in members - {owner}:
        assert owner_of(key, members - {other}) == owner


def test_owner_is_the_same_in_every_process():
    # Recorded once: a change would move symbols between instances of different versions.
    keys = ["BTC/USD", "ETH/USD", "SOL/USD", "XRP/EUR"]
    assert [owner_of(key, {"a", "b", "c"}) for key in keys] == ["b", "c", "c", "a"]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_keys_are_spread_evenly(count):
    members = {f"instance-{n}" for n in range(count)}
    shares = Counter(owner_of(f"S{n}/USD", members) for n in range(3000))
    assert set(shares) == members
    assert all(0.8 < share * count / 3000 < 1.2 for share in shares.values())


def test_no_members_is_an_error():
    with pytest.raises(ValueError, match="BTC/USD"):
        owner_of("BTC/USD", [])


def test_members_come_and_go_with_their_status():
    members = Members(Topics(), "aggregator", "me")
    assert members.filter == "ingress/status/aggregator/+"
    assert members.online == {"me"}
    assert members.update(status("other"))
    assert not members.update(status("other"))
    assert members.online == {"me", "other"}
    assert members.update(status("other", InstanceState.OFFLINE))
    assert members.online == {"me"}


def test_own_last_will_and_other_services_change_nothing():
    members = Members(Topics(), "aggregator", "me")
    assert not members.update(status("me", InstanceState.OFFLINE))
    assert not members.update(status("other", service="influx-writer"))
    assert members.online == {"me"}


class Clocked:
    """Members on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.members = Members(Topics(), "aggregator", "me", lambda: self.now)

    def pass_by(self, seconds: int) -> bool:
        """Call `expire` every second for that long; whether it removed a member."""
        changed = False
        for _ in range(seconds):
            self.now += 1
            changed |= self.members.expire()
        return changed


def test_silent_member_expires_except_while_the_broker_is_disconnected():
    clocked = Clocked()
    clocked.members.update(status("other"))
    assert not clocked.pass_by(int(TAKEOVER_SECONDS))
    clocked.members.reconnected()
    assert not clocked.pass_by(int(TAKEOVER_SECONDS) - 1)
    assert clocked.pass_by(2)
    assert clocked.members.online == {"me"}
    assert not clocked.pass_by(2)


def test_resumed_process_expires_nobody_before_statuses_can_arrive():
    clocked = Clocked()
    clocked.members.update(status("other"))
    clocked.pass_by(1)
    clocked.now += 10 * TAKEOVER_SECONDS
    assert not clocked.pass_by(int(TAKEOVER_SECONDS) - 1)
    assert clocked.members.online == {"me", "other"}
    assert clocked.pass_by(3)


def test_forged_members_do_not_fill_the_memory():
    members = Members(Topics(), "aggregator", "me")
    for number in range(MAXIMUM_MEMBERS + 10):
        members.update(status(f"made-up-{number}"))
    assert len(members.online) == MAXIMUM_MEMBERS + 1


@given(groups, names)
def test_every_symbol_has_exactly_one_owner(group, symbol):
    everyone = [Members(Topics(), "aggregator", me) for me in group]
    for members in everyone:
        for name in group:
            members.update(status(name))
    assert sum(members.owns(symbol) for members in everyone) == 1
