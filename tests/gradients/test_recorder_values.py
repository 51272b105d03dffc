import pytest
import torch
from recorded import NETWORKS, assert_records, batches, resnet18, resnet_activations, split, train

from unvanish.gradients import GradientRecorder

pytestmark = pytest.mark.slow

PRECISE = {torch.float32: 1e-5, torch.float64: 1e-9}


@pytest.mark.parametrize(("micro_batches", "clip"), [(1, None), (1, 0.01), (3, 0.01)])
@pytest.mark.parametrize("dtype", PRECISE, ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_records_equal_plain_autograd(name, dtype, micro_batches, clip):
    torch.manual_seed(0)
    make, activations = NETWORKS[name]
    model = make().to(dtype)
    steps = split(batches(dtype, 3), micro_batches)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        expected = train(make, model, steps, activations, recorder, clip)
        records = recorder.flush()
    assert [record.step for record in records] == [0, 1, 2]
    assert_records(records, expected, PRECISE[dtype])
    assert recorder.activations == {
        name: kind for name, (kind, _) in activations.items() if name in recorder.activations
    }


@pytest.mark.parametrize("dtype", PRECISE, ids=["float32", "float64"])
def test_a_resnet_equals_plain_autograd(dtype):
    model = resnet18().to(dtype)
    torch.manual_seed(2)
    data = [(torch.randn(2, 3, 32, 32, dtype=dtype), torch.tensor([0, 2])) for _ in range(2)]
    with GradientRecorder(model, every_n_steps=1) as recorder:
        expected = train(resnet18, model, split(data, 1), resnet_activations(), recorder)
        assert_records(recorder.flush(), expected, PRECISE[dtype])
