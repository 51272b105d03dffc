"""What TensorBoard's event files hold beside numbers."""

import struct

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING


def tensor_value(tag: str, plugin: str, content: bytes) -> Summary.Value:
    """A text, or bytes, for one of TensorBoard's plugins."""
    data = SummaryMetadata.PluginData(plugin_name=plugin)
    metadata = SummaryMetadata(plugin_data=data, data_class=DATA_CLASS_TENSOR)
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[content])
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def picture_value(tag: str, png: bytes) -> Summary.Value:
    """A picture, as it is in its file."""
    width, height = struct.unpack(">II", png[16:24])  # the header of the format's first chunk
    return Summary.Value(
        tag=tag, image=Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    )
