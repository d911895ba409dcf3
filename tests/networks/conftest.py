"""What every network must satisfy: its linearization is autograd's, its parameters come from the seed alone."""

import pytest
import torch


@pytest.fixture
def assert_equals_autograd():
    def check(chain, x):
        """Df from the chain against torch.autograd, sample by sample, to rounding."""
        found = chain.linearize(x).dense()
        for index, point in enumerate(x):
            expected = torch.autograd.functional.jacobian(lambda z: chain(z[None])[0].flatten(), point)
            scale = expected.abs().max().item()
            torch.testing.assert_close(found[index], expected.flatten(1), rtol=0, atol=1e-13 * scale)

    return check


@pytest.fixture
def assert_from_seed_alone():
    def check(make):
        """The same parameters whatever the global random state, which stays; others from another seed."""
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = make(seed=0)
        assert torch.equal(state, torch.get_rng_state())
        torch.manual_seed(2)
        again, other = make(seed=0), make(seed=1)
        pairs = zip(first.parameters(), again.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert not torch.equal(next(first.parameters()), next(other.parameters()))

    return check


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(name="normal")
def _normal():
    return normal
