import logging
import os
import shutil
from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest
import torch
from build import build
from pictures import cut_short, read
from PIL import Image

from unvanish.command.main import main
from unvanish.data.augmentation import Augmentation
from unvanish.data.clip_decoder import ClipDecoder
from unvanish.data.folders import ImageFolder
from unvanish.data.image_decoder import ImageDecoder

FRAMES, SIDE = 23, 32
CODECS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("mpeg4", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "mkv": ("ffv1", "yuv420p"),
    "webm": ("libvpx", "yuv420p"),
    "mpg": ("mpeg1video", "yuv420p"),
    "gif": ("gif", "rgb8"),
}


def write_clip(path, frames=FRAMES, first=0, **options):
    """A clip whose frame i is grey, of brightness first + 10 i, darker by 5 in its lower half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, pixel_format = CODECS[path.suffix[1:]]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.width = stream.height = SIDE
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = 6
        for i in range(frames):
            image = np.full((SIDE, SIDE, 3), first + 10 * i, dtype=np.uint8)
            image[SIDE // 2 :] -= min(5, first + 10 * i)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_frames(folder, brightness):
    folder.mkdir(parents=True)
    for i, value in enumerate(brightness):
        Image.new("RGB", (SIDE, SIDE), (value,) * 3).save(folder / f"frame_{i + 1}.png")
    return folder


def decode(path, frames, size=(4, 4), channels=3):
    return ClipDecoder(ImageDecoder(*size, channels), frames)(path)


def brightness(clip):
    """Of each frame's upper half, (T,)."""
    return clip[:, :, :1].mean(axis=(0, 2, 3))


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize(
    ("frames", "taken"), [(1, [11]), (5, [2, 6, 11, 16, 20]), (23, range(23)), (46, np.repeat(range(23), 2))]
)
def test_frames_are_taken_from_the_middles_of_equal_pieces(tmp_path, suffix, frames, taken):
    clip = decode(write_clip(tmp_path / f"x.{suffix}"), frames)
    assert (clip.shape, clip.dtype) == ((3, frames, 4, 4), np.uint8)
    assert np.abs(brightness(clip) - 10 * np.array(taken)).max() <= 5
    assert np.abs(clip[:, 0, 3].mean() - (10 * taken[0] - 5)) <= 6 or taken[0] == 0


def test_frames_in_a_folder_are_taken_in_the_order_of_their_numbers(tmp_path):
    folder = write_frames(tmp_path / "clip", range(0, 230, 10))
    (folder / "notes.txt").write_text("x")
    assert np.array_equal(decode(folder, 23)[0, :, 0, 0], range(0, 230, 10))
    assert np.array_equal(decode(folder, 5, channels=1)[0, :, 0, 0], [20, 60, 110, 160, 200])


def test_packets_that_are_no_frames_to_show_do_not_count(tmp_path):
    path = write_clip(tmp_path / "x.mpg")
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 8 :])  # as a recording that was cut: it begins between two key frames
    with av.open(str(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24")[0].mean() for frame in container.decode(video=0)]
    assert 0 < len(shown) < packets
    assert np.abs(brightness(decode(path, len(shown))) - shown).max() <= 1


COUNTS = {"up": 7, "down": 11}


@pytest.fixture
def clips(tmp_path):
    """Every other clip is a file, the others are folders; number i is of brightness i."""
    number = 0
    for name, count in COUNTS.items():
        for _ in range(count):
            if number % 2:
                write_frames(tmp_path / "clips" / name / f"{number:02}", [10 * number] * 3)
            else:
                write_clip(tmp_path / "clips" / name / f"{number:02}.mkv", 3, 10 * number)
            number += 1
    return tmp_path / "clips"


@pytest.fixture
def load(tmp_path):
    def make(path, **options):
        defaults = {"image_size": [4, 6], "frames": 5, "batch_size": 3, "cache_folder": str(tmp_path / "cache")}
        return build(ImageFolder, str(path), **defaults | options)

    return make


def test_clips_of_both_kinds_are_split_by_class(clips, load):
    data = load(clips)
    assert (data.task, data.input_shape, data.class_names) == ("binary", (3, 5, 4, 6), ["down", "up"])
    found = {}
    for x, y in data.splits[:3]:
        assert x.dtype == torch.uint8
        for clip, label in zip(x.float(), y.tolist(), strict=True):
            found[round(clip[:, 0, 0].mean().item() / 10)] = label
    assert found == {number: float(number < 7) for number in range(18)}


def test_batches_are_the_same_wherever_the_clips_are_kept(clips, load):
    for options in ({}, {"channels": 1, "seed": 5}):
        for first, second in zip(
            load(clips, cache="memory", **options).train_dataloader(),
            load(clips, cache="file", **options).train_dataloader(),
            strict=True,
        ):
            assert all(map(torch.equal, first, second))


def test_a_frame_that_changes_makes_a_cached_file_anew(clips, load):
    before = load(clips, cache="file").splits.train[0].read()
    for path in clips.glob("*/*/frame_1.png"):
        Image.new("RGB", (50, 50), "white").save(path)
    after = load(clips, cache="file").splits.train[0].read()
    assert (before != after).flatten(1).any(dim=1).sum() >= 3


def test_batches_are_normalised_and_augmented_clip_by_clip(clips, load):
    data = load(clips, augmentation=Augmentation(crop=2, flip=True))
    x = data.splits.train[0].double()
    mean, std = x.mean(dim=(0, 2, 3, 4)), x.std(dim=(0, 2, 3, 4), correction=0)
    batch = next(iter(data.val_dataloader()))
    found = data.on_after_batch_transfer(batch, 0)[0]
    expected = (batch[0].double() - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert data.pixels.black.shape == (3, 1, 1, 1)


def test_own_splits_and_predictions(tmp_path, load, clips):
    shutil.copytree(clips, tmp_path / "own" / "train")
    shutil.copytree(clips / "up", tmp_path / "own" / "test" / "up")
    data = load(tmp_path / "own", predict_path=str(clips / "up"))
    assert [len(y) for _, y in data.splits[:3]] == [16, 2, 7]
    (x,) = data.splits.predict
    found = (x[:, :, 0, 0].float().mean(dim=(1, 2)) / 10).round().tolist()
    assert found == [0, 1, 2, 3, 4, 5, 6]


def cut_mp4(folder):
    cut_short(write_clip(folder / "x.mp4"))  # its table of contents is at its end


def cut_streamed_mp4(folder):
    cut_short(write_clip(folder / "x.mp4", movflags="faststart"))


def cut_avi(folder):
    cut_short(write_clip(folder / "x.avi"))


def cut_matroska(folder):
    cut_short(write_clip(folder / "x.mkv"), 0.9)


def cut_webm(folder):
    cut_short(write_clip(folder / "x.webm"), 0.8)


def pipe(folder):
    os.mkfifo(folder / "x.mkv")


def empty(folder):
    (folder / "x.mkv").touch()


def sound_only(folder):
    with av.open(str(folder / "x.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


def cut_frame(folder):
    cut_short(write_frames(folder / "x", [50] * 5) / "frame_3.png")


@pytest.mark.parametrize(
    "damage", [cut_mp4, cut_streamed_mp4, cut_avi, cut_matroska, cut_webm, pipe, empty, sound_only, cut_frame]
)
def test_an_unreadable_clip_is_named_in_one_line_or_left_out(clips, load, caplog, damage):
    damage(clips / "up")
    with pytest.raises(ValueError, match=r"^1 of 19 clips cannot be read: \S*up/x\S* \(.+\); on_error=skip") as refusal:
        read(load(clips))
    assert "\n" not in str(refusal.value)
    assert sum(len(y) for _, y in read(load(clips, on_error="skip"))[:3]) == 18
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "1 of 19 clips cannot be read" in record.getMessage()


def test_images_without_a_folder_of_their_own_are_no_clips(tmp_path, load):
    for name in ("a", "b"):
        write_frames(tmp_path / "flat" / name, [1, 2, 3])
    with pytest.raises(ValueError, match=r"flat/a: no clips \(\.mp4, .* or a folder of frames each\)"):
        _ = load(tmp_path / "flat").class_names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames is 0; it must be at least 1"),
        ({"image_size": -1}, "image_size is -1"),
        ({"augmentation": Augmentation(cutout=5)}, "augmentation: cutout 5 is larger than images of 4 x 6"),
        ({"cache": "disk"}, "unknown cache 'disk'"),
    ],
)
def test_arguments_of_clip_folders_are_checked_at_once(load, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        load("nowhere", **options)


RECIPE = """
model: {class_path: unvanish.MLP, hidden_sizes: [11]}
data: {class_path: CLASS, loading: {batch_size: 4}}
trainer: {max_epochs: 1}
"""


@pytest.mark.slow
def test_the_commands_train_on_clips(clips, workplace):
    for name in ("clips.MovingDigits", "folders.ImageFolder"):
        (workplace / "clips.yaml").write_text(RECIPE.replace("CLASS", f"unvanish.data.{name}"))
        words = (
            [f"--data.path={clips}", "--data.image_size=4", "--data.frames=8"]
            if "Folder" in name
            else ["--data.clips=60"]
        )
        assert main(["fit", "-c", "clips.yaml", *words]) == 0
    assert main(["predict", "-c", "clips.yaml"]) == 0
    assert list(pd.read_csv("runs/clips/2/predictions.csv"))[3:] == ["probability_down", "probability_up"]
