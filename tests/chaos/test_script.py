"""The script: the same for the same seed, whole, and within its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.script import KRAKEN_KINDS, ON_ASKING, Form, ScriptError, Then, catalogue, make_script
from kraken_simulator.faults import KINDS, ONE_SHOT

forms = st.sampled_from(list(Form))
seeds = st.integers(0, 2**32)


@given(forms, seeds, st.integers(0, 150))
def test_the_same_seed_gives_the_same_script_and_a_longer_one_goes_on_from_it(form, seed, faults):
    script = make_script(form, seed, faults)
    assert script == make_script(form, seed, faults)
    assert make_script(form, seed, faults + 20)[:faults] == script
    assert [fault.number for fault in script] == list(range(1, faults + 1))


@given(forms, seeds)
def test_two_hundred_faults_hold_every_kind_on_every_target(form, seed):
    script = make_script(form, seed, 200)
    assert {(fault.kind, fault.target) for fault in script} == set(catalogue(form))
    assert {fault.then for fault in script} == set(Then)


@given(forms, seeds)
def test_faults_are_within_their_bounds(form, seed):
    for fault in make_script(form, seed, 100):
        assert 0 <= fault.seconds <= 60, fault
        assert 0 <= fault.pause <= 60, fault
        assert fault.then is not Then.OVERLAP or fault.pause <= fault.seconds, fault
        assert (fault.kind == "scale") == (1 <= fault.replicas <= 3), fault
        assert (fault.kind == "cut") == (fault.direction in ("both", "in", "out")), fault
        assert (fault.kind == "clock") == bool(fault.offset), fault


@given(seeds)
def test_consecutive_kills_hit_one_target_at_the_requested_pace(seed):
    script = make_script(Form.COMPOSE, seed, 100, only=["kill"], target="aggregator", every=(3, 8))
    assert {(fault.kind, fault.target) for fault in script} == {("kill", "aggregator")}
    assert all(3 <= fault.pause <= 8 and fault.seconds <= 3 and fault.then is Then.OVERLAP for fault in script)


def test_other_seeds_give_other_scripts():
    assert len({make_script(Form.COMPOSE, seed, 20) for seed in range(50)}) == 50


def test_the_simulator_knows_every_kind_and_no_kind_of_it_is_forgotten():
    assert {*KRAKEN_KINDS, *ON_ASKING} == set(KINDS)
    for fault in make_script(Form.COMPOSE, 1, 200, only=ONE_SHOT):
        assert fault.seconds == 0, fault


def test_unwanted_kinds_are_excluded_and_opt_in_kinds_absent_by_default():
    assert "rest_revision" not in {fault.kind for fault in make_script(Form.COMPOSE, 1, 300)}
    assert {fault.kind for fault in make_script(Form.COMPOSE, 1, 9, only=["rest_revision"])} == {"rest_revision"}
    assert "clock" not in {fault.kind for fault in make_script(Form.COMPOSE, 1, 300, without=["clock"])}


def test_cuts_are_found_by_one_of_their_ends():
    targets = {fault.target for fault in make_script(Form.COMPOSE, 1, 30, only=["cut"], target="influxdb")}
    assert targets == {"influx-writer~influxdb", "admin-api~influxdb"}


def test_unknown_kinds_and_targets_are_refused_with_the_valid_ones():
    with pytest.raises(ScriptError, match=r"expected kinds of kill, .*, got flood"):
        make_script(Form.COMPOSE, 1, 5, only=["flood"])
    with pytest.raises(ScriptError, match=r"expected a target of .*aggregator.*, got postgres"):
        make_script(Form.COMPOSE, 1, 5, only=["kill"], target="postgres")
    with pytest.raises(ScriptError, match=r"expected kinds of .*, got scale"):
        make_script(Form.ONE_PROCESS, 1, 5, only=["scale"])
