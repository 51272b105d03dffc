import pytest
import torch

from unvanish.gradients.hooks import Watch


@pytest.fixture(autouse=True)
def errors_of_hooks_are_errors(request, monkeypatch):
    """A hook's error ends no training; but in a test it is one, unless that test is about it."""

    def fail(self, error):
        raise error

    if "hooks_may_fail" not in request.keywords:
        monkeypatch.setattr(Watch, "fail", fail)


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order():
    torch.manual_seed(0)
