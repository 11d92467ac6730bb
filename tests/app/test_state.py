"""A link holds all of a state, and no link makes a state that cannot be."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank_guidance.app.state import VIEWS, Source, State, from_link, to_link, unknown_in

WORDS = st.text("aé ,&=%+#λ", min_size=1, max_size=8)
SOURCES = st.builds(
    Source,
    model=st.sampled_from(["tiny-flux", "a/b", "/a folder/m"]),
    prompt=WORDS,
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 1000),
    cfg=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    picture=st.sampled_from(["", "0" * 64]),
    caption=WORDS,
    timestep=st.integers(0, 999),
)
STATES = st.builds(
    State,
    source=SOURCES,
    view=st.sampled_from(VIEWS),
    step=st.none() | st.integers(0, 99),
    heads=st.sampled_from(["lambda2", "mean", "0", "11"]),
    token=st.none() | st.integers(0, 5000),
    n=st.integers(1, 8),
    direction=st.sampled_from(["outgoing", "incoming"]),
    damping=st.floats(0.01, 0.99),
    region=st.sets(st.integers(0, 300)).map(lambda tokens: tuple(sorted(tokens))),
    threshold=st.sampled_from(["auto", "0.5"]),
    words=WORDS,
    arms=st.sampled_from([(), ("sag",), ("sag", "pag")]),
    scale=st.floats(0, 10),
    pag_scale=st.floats(0, 10),
)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(state=STATES)
def test_a_link_restores_the_state(state):
    assert from_link(to_link(state)) == state
    assert from_link(f"http://127.0.0.1:7860/?{to_link(state)}#x") == state


def test_the_default_needs_no_link_and_a_region_is_short():
    assert to_link(State()) == ""
    assert to_link(State(region=(3, 4, 5, 9))) == "region=3-5.9"


@settings(max_examples=30, derandomize=True, deadline=None)
@given(name=st.sampled_from([*Source.__dataclass_fields__, *State.__dataclass_fields__]), text=WORDS)
def test_any_link_is_a_state_or_a_value_error(name, text):
    with suppress(ValueError):
        from_link(f"{name}={text}")


@pytest.mark.parametrize(
    ("link", "named"),
    [
        *(("view=map", "view"), ("n=9", "n"), ("n=x", "n"), ("steps=0", "steps"), ("damping=1", "damping")),
        *(("picture=abc", "picture"), ("token=-1", "token"), ("region=0-9999999999", "region")),
        *(("heads=both", "heads"), ("threshold=nan", "threshold"), ("cfg=inf", "cfg")),
        *(("scale=-1", "scale"), ("pag_scale=nan", "pag_scale")),
    ],
)
def test_a_wrong_link_names_what_is_wrong(link, named):
    with pytest.raises(ValueError, match=f"^{named}: got"):
        from_link(link)


def test_marks_on_another_model_s_tokens_are_forgotten():
    state = State(token=5, layer="mid", heads="2", region=(1,))
    assert state.of(model="tiny-flux") == State(Source(model="tiny-flux"))
    assert state.of(n=4) == replace(state, n=4)
    assert state.of(steps=5).step is None


def test_names_that_no_state_has_are_told():
    assert unknown_in("http://127.0.0.1:7860/?__theme=dark&tokens=136&n=3&source=x#y") == ["tokens", "source"]
    assert unknown_in(to_link(State(Source(prompt="a box"), token=3, region=(1, 2)))) == []
