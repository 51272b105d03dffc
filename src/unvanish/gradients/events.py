"""Writes records to TensorBoard: one ``Summary`` a step, however many layers there are."""

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from unvanish.gradients.recorder import Record
from unvanish.gradients.verdict import judge


def write_record(writer: SummaryWriter, record: Record) -> None:
    """Write the values of a step under ``<quantity>/<layer>``, and two that sum it up under ``gradient/``."""
    values = [
        Summary.Value(tag=f"{quantity}/{layer}", simple_value=value)
        for quantity in ("gradient_norm", "delta_rms", "update_ratio")
        for layer, value in record.values.get(quantity, {}).items()
    ]
    if "delta_norm" in record.values:
        verdict = judge(record.values["delta_norm"])
        values += [
            Summary.Value(tag="gradient/first_over_last", simple_value=verdict.first_over_last),
            Summary.Value(tag="gradient/decay_per_layer", simple_value=verdict.factor_per_layer),
        ]
    summary = Summary(value=values)
    writer._get_file_writer().add_summary(summary, record.step, record.time)  # type: ignore[no-untyped-call]
