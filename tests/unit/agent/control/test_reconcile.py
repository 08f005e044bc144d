"""Reconciling: the whole wanted state against what was last carried out."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pareta_agent.control.reconcile import Deploy, Forget, Stop, Wanted, reconcile

A = Wanted("ep_a", "org", "task", "alias-1", "running")
B = replace(A, id="ep_b")


def test_a_new_endpoint_is_deployed():
    """What is wanted and unknown is deployed."""
    assert reconcile([A], {}) == (Deploy(A),)


def test_what_is_as_wanted_needs_nothing():
    """Equal values yield no action."""
    assert reconcile([A], {"ep_a": A}) == ()


def test_a_stopped_endpoint_is_stopped_and_kept():
    """`stopped` is a state of the endpoint, not its absence."""
    stopped = replace(A, state="stopped")
    assert reconcile([stopped], {"ep_a": A}) == (Stop(stopped),)


def test_an_endpoint_that_is_wanted_no_more_is_forgotten():
    """Absence from the desired state means removal."""
    assert reconcile([], {"ep_a": A}) == (Forget("ep_a"),)


def test_a_changed_alias_is_deployed_anew():
    """Any difference in what is wanted is carried out."""
    changed = replace(A, alias="alias-2")
    assert reconcile([changed], {"ep_a": A}) == (Deploy(changed),)


def test_what_frees_hardware_comes_first():
    """Forget and stop precede deploy, so that one full node can swap endpoints."""
    stopped, new = replace(B, state="stopped"), replace(A, id="ep_c")
    assert reconcile([new, stopped], {"ep_a": A, "ep_b": B}) == (Forget("ep_a"), Stop(stopped), Deploy(new))


wanted = st.builds(
    Wanted,
    id=st.sampled_from(["ep_a", "ep_b", "ep_c"]),
    org=st.just("org"),
    task=st.sampled_from(["t", "u"]),
    alias=st.just("a-1"),
    state=st.sampled_from(["running", "stopped"]),
)
states = st.lists(wanted, unique_by=lambda entry: entry.id)


@given(states, states)
def test_applying_the_actions_leaves_nothing_to_do(desired, before):
    """One pass converges from any state to any other."""
    acted = {entry.id: entry for entry in before}
    for action in reconcile(desired, acted):
        if isinstance(action, Forget):
            del acted[action.endpoint]
        else:
            acted[action.wanted.id] = action.wanted
    assert reconcile(desired, acted) == ()
    assert acted == {entry.id: entry for entry in desired}
