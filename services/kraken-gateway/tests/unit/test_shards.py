"""Which symbols are wanted, and which feed carries them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.shards import SHARD_SIZE, listing, matching, moved, reshard

PAIRS = {
    "BTC/USD": "online",
    "ETH/USD": "post_only",
    "ETH/EUR": "limit_only",
    "OLD/USD": "delisted",
    "HALTED/USD": "cancel_only",
    "NEW/USD": "work_in_progress",
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*"], {"BTC/USD", "ETH/USD", "ETH/EUR", "HALTED/USD"}),
        (["*/USD"], {"BTC/USD", "ETH/USD", "HALTED/USD"}),
        (["ETH/*"], {"ETH/USD", "ETH/EUR"}),
        (["*/GBP"], set()),
        (["SOL/USD", "*/EUR"], {"SOL/USD", "ETH/EUR"}),
    ],
)
def test_patterns_mean_the_pairs_that_are_traded_or_halted(patterns, expected):
    assert matching(patterns, PAIRS) == expected


def test_delisted_symbols_stay_listed_with_the_reason():
    first = listing(["*/USD", "XBT/EUR"], {"BTC/USD": "online", "ETH/USD": "online", "OLD/USD": "delisted"}, {}, ())
    assert (first.wanted, first.gone) == ({"BTC/USD", "ETH/USD", "XBT/EUR"}, {})
    before = {"BTC/USD": "online", "ETH/USD": "online", "OLD/USD": "delisted"}
    gone = listing(["*/USD", "XBT/EUR"], {"BTC/USD": "delisted", "SOL/USD": "online"}, before, first.wanted)
    assert gone.wanted == {"BTC/USD", "ETH/USD", "SOL/USD", "XBT/EUR"}
    assert gone.gone == {
        "BTC/USD": "delisted in Kraken's list of pairs",
        "ETH/USD": "not in Kraken's list of pairs",
    }
    assert gone.appeared == {"SOL/USD"}
    before = {"BTC/USD": "delisted", "ETH/USD": "", "SOL/USD": "online"}
    back = listing(
        ["*/USD", "XBT/EUR"], {"BTC/USD": "online", "SOL/USD": "online", "XBT/EUR": "online"}, before, gone.wanted
    )
    assert back.gone == {"ETH/USD": "not in Kraken's list of pairs"}
    assert back.appeared == {"BTC/USD", "XBT/EUR"}


def test_name_in_another_case_has_the_right_one_as_its_reason():
    found = listing(["AAPLX/USD", "NOT/USD"], {"AAPLx/USD": "online"}, {}, ())
    assert found.gone == {"AAPLX/USD": "not in Kraken's list of pairs, which has AAPLx/USD"}
    assert found.wanted == {"AAPLX/USD", "NOT/USD"}


symbols = st.frozensets(st.integers(0, 60).map(lambda n: f"S{n}/USD"))


@given(st.lists(symbols, min_size=1, max_size=8))
def test_resharding_carries_exactly_what_is_wanted_and_moves_no_symbol(steps):
    shards: dict[int, frozenset[str]] = {}
    for wanted in steps:
        before = {symbol: slot for slot, members in shards.items() for symbol in members}
        shards = reshard(shards, wanted, size=7)
        carried = [symbol for members in shards.values() for symbol in members]
        assert sorted(carried) == sorted(wanted)
        assert all(0 < len(members) <= 7 for members in shards.values())
        assert all(before.get(s, slot) == slot for slot, members in shards.items() for s in members)


def test_all_pairs_need_five_feeds():
    assert len(reshard({}, frozenset(f"S{n}/USD" for n in range(1449)))) == -(-1449 // SHARD_SIZE)


@given(st.lists(symbols, min_size=1, max_size=8), st.data())
def test_moved_symbol_changes_its_feed_alone(steps, data):
    shards = reshard({}, frozenset[str]().union(*steps), size=7)
    if not shards:
        return
    symbol = data.draw(st.sampled_from(sorted(frozenset().union(*shards.values()))))
    before = {name: slot for slot, members in shards.items() for name in members}
    after = {name: slot for slot, members in moved(shards, symbol, size=7).items() for name in members}
    assert after.pop(symbol) != before.pop(symbol)
    assert after == before
