import json
import math

import lightning as L
import pytest
import torch
from torch import nn

from unvanish.data import BatchLoader
from unvanish.gradients import GradientMonitor, GradientRecorder, Report
from unvanish.gradients.judge import report_state


def trained(steps, broken=None):
    """A report on a network that trains, and from step ``broken`` on does so no more."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    report = Report(window=3, columns=5)
    with GradientRecorder(model, 3, first_steps=3, histogram_every_n_steps=3) as recorder:
        for step in range(steps):
            optimizer.zero_grad()
            x, y = torch.randn(11, 5), torch.randint(3, (11,))
            loss = nn.functional.cross_entropy(model(x), y) * (math.nan if step == broken else 1)
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(step)
            if step != broken:
                optimizer.step()
            recorder.after_step(optimizer)
        report.add(recorder.flush())
    report.validated(1.25)
    return report, recorder


def as_text(report):
    return json.dumps(report.as_dict(), indent=1)


@pytest.mark.parametrize("broken", [None, 20])
def test_a_report_that_was_kept_says_the_same_and_goes_on_the_same(broken):
    report, _ = trained(21, broken)
    found = Report(window=3, columns=5)
    report_state.load(found, report_state.dump(report))
    assert as_text(found) == as_text(report)
    assert [record.step for record in found.sample] == [record.step for record in report.sample]
    assert report_state.dump(found) == report_state.dump(report)
    assert (found.end.name == "nan") == (broken is not None)
    more, _ = trained(13)
    for one in (report, found):
        one.add(more.last)
    assert as_text(found) == as_text(report)


def test_records_are_equal_to_the_last_bit():
    report, _ = trained(10)
    found = Report(window=3, columns=5)
    report_state.load(found, report_state.dump(report))
    assert found.first == report.first
    assert found.last == report.last
    assert found.first[0].heads
    assert found.first[0].given
    assert found.first[0].options[0]["betas"] == (0.9, 0.999)
    assert found.first[0].trunks == report.first[0].trunks


class Plain(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(0.3), nn.Linear(7, 3))

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Drawn(L.Callback):
    """Has dropout draw the same masks at a step, and a checkpoint be written after one."""

    def __init__(self, keep=None, path=None):
        self.keep, self.path = keep, path

    def on_train_batch_start(self, trainer, *_):
        torch.manual_seed(trainer.global_step)

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.keep:
            trainer.save_checkpoint(self.path)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [6, 21, 33])
def test_in_any_lightning_training_the_report_goes_on_where_the_checkpoint_was_written(tmp_path, steps):
    """With the gradients that the next step's are compared with: everything was measured at steps 5 and 20."""
    torch.manual_seed(1)
    data, path = (torch.randn(660, 5), torch.randint(3, (660,))), tmp_path / "kept.ckpt"
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    reports = []
    for limit, keep, start in ((50, None, None), (steps, steps, None), (50, None, path)):
        torch.manual_seed(2)
        monitor, drawn = GradientMonitor(verbose=False), Drawn(keep, path)
        trainer = L.Trainer(**options, max_steps=limit, callbacks=[monitor, drawn], enable_checkpointing=False)
        trainer.fit(Plain(), BatchLoader(data, 11, shuffle=True), ckpt_path=start)
        reports.append(monitor.report)
    whole, part, resumed = reports
    assert (whole.steps, part.steps, resumed.steps) == (50, steps, 50)
    assert as_text(resumed) == as_text(whole)
    assert "gradient_cosine" in as_text(whole)
