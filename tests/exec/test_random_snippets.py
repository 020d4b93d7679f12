"""Random instruction sequences leave the same state behind translated as on the CPU.

Compared are all general registers, the flags, MXCSR, vector and opmask registers, the x87 state,
and all memory that was reachable. Each sequence runs without callbacks, and with a PREINST and a
POSTINST callback on every instruction; these see the registers that single-stepping the CPU shows,
in the same order.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exec import campaign
from tests.exec.batch import FAMILIES, make_snippet
from tests.exec.native_runner import vector_level
from tests.exec.snippets import Snippet

_NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "avx512" and vector_level() < 2, reason="this CPU has no AVX-512"
        ),
    )
    for name in FAMILIES
]


@pytest.mark.parametrize("family", _NAMES)
def test_runs_as_on_the_cpu(family: str) -> None:
    """A sequence of this family's instructions computes what the CPU computes."""
    campaign.check(family)


@pytest.mark.parametrize("mode", ["clearing", "nested", "sparse", "pieces"])
@pytest.mark.parametrize("family", ["branches", "mixed"])
def test_runs_as_on_the_cpu_in_another_mode(family: str, mode: str) -> None:
    """Callbacks that clear the cache, run another VM, or are few change nothing; nor do cuts."""
    campaign.check(family, modes=(mode,), cases=campaign.CASES // 2)


@pytest.mark.parametrize("place", ["distant", "crowded"])
@pytest.mark.parametrize("family", ["branches", "mixed"])
def test_runs_as_on_the_cpu_out_of_reach(family: str, place: str) -> None:
    """Code over 2 GiB from the cache's beginning, or with nothing free for 2 GiB around it."""
    campaign.check(family, places=(place,), cases=campaign.CASES // 2)


@st.composite
def _snippets(draw: st.DrawFn) -> Snippet:
    """A sequence whose every choice is hypothesis's, so that hypothesis can shrink it."""
    families = [name for name in FAMILIES if name != "avx512" or vector_level() == 2]
    family = draw(st.sampled_from(families))
    state_seed = draw(st.integers(0, 2**32))
    rng: random.Random = draw(st.randoms(use_true_random=False))
    return make_snippet(family, state_seed, rng)


_worker = campaign.Worker()


@pytest.fixture(scope="module", autouse=True)
def _end_worker() -> object:
    yield
    _worker.close()


@settings(
    max_examples=max(20, campaign.CASES // 20),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(snippets=st.lists(_snippets(), min_size=1, max_size=8))
def test_shrinkable_sequences_run_as_on_the_cpu(snippets: list[Snippet]) -> None:
    """The same of sequences that hypothesis makes, and makes smaller when they fail."""
    failures = campaign.run_in(_worker, snippets)
    assert not failures, "\n".join(campaign.describe(failure) for failure in failures[:1])
