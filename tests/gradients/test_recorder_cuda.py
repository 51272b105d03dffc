import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for")
BATCH, TIMES, FEATURES, CLASSES = 11, 7, 5, 3


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.leave = nn.LSTM(FEATURES, 13, batch_first=True), nn.Linear(13, CLASSES)

    def forward(self, x):
        return self.leave(self.lstm(x)[0][:, -1])


NETWORKS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(TIMES * FEATURES, 13),
        nn.ReLU(inplace=True),
        nn.Linear(13, 13),
        nn.Tanh(),
        nn.Linear(13, CLASSES),
    ),
    "cnn": lambda: nn.Sequential(
        nn.Conv1d(TIMES, 13, 3), nn.BatchNorm1d(13), nn.Sigmoid(), nn.Flatten(), nn.Linear(39, CLASSES)
    ),
    "lstm": Reads,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_between_two_flushes_the_host_never_waits_for_the_device(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.randn(BATCH, TIMES, FEATURES).cuda(), torch.randint(CLASSES, (BATCH,)).cuda()
    with GradientRecorder(model, every_n_steps=2, first_steps=3, histogram_every_n_steps=2) as recorder:
        for flush in range(2):
            torch.cuda.set_sync_debug_mode("error")
            try:
                for step in range(9):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    recorder.before_step(9 * flush + step, batch_size=BATCH)
                    optimizer.step()
                    recorder.after_step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert len(recorder.flush()) == 9
