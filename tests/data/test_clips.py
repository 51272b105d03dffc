import logging
import shutil
from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from unvanish.command.main import main
from unvanish.data import Images
from unvanish.data.augmentation import Augmentation
from unvanish.data.clip_folder import ClipDecoder, ClipFolder
from unvanish.data.clips import DIRECTIONS, MovingDigits
from unvanish.data.image_folder import ImageDecoder

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12

SMALL = {"clips": 67, "validation_clips": 41, "test_clips": 43, "batch_size": 11}


# Moving digits


def grey(data):
    """The x of each split as it was before normalising: whole numbers from 0 to 16."""
    return [(x * data.pixels.std + data.pixels.mean).round().int().numpy() for x, _ in data.splits[:3]]


def digits_of(split_seed=0):
    """The images of each split of Images, each with its class."""
    data = Images("digits", split_seed=split_seed)
    splits = zip(grey(data), data.splits[:3], strict=True)
    return [{image.tobytes(): label for image, label in zip(x, y.tolist(), strict=True)} for x, (_, y) in splits]


def answers(clip, known, steps):
    """What a clip (T, size, size) shows: the digits in its first frame that, rolled on, make all frames, and where."""
    digits, directions = set(), set()
    for corner in np.ndindex(clip[0].shape):
        first = np.roll(clip[0], np.negative(corner), (0, 1))
        digit = np.ascontiguousarray(first[:8, :8]).tobytes()
        if digit not in known or first.sum() != first[:8, :8].sum():
            continue
        for direction, step in enumerate(steps):
            rolled = [np.roll(clip[0], np.multiply(step, t), (0, 1)) for t in range(len(clip))]
            if np.array_equal(rolled, clip):
                digits.add(known[digit])
                directions.add(direction)
    return {"digit": digits, "direction": directions}


@pytest.mark.parametrize(("frames", "size", "directions"), [(8, 16, 4), (5, 11, 8), (3, 8, 8)])
@pytest.mark.parametrize("label", ["digit", "direction"])
def test_a_digit_of_its_split_moves_one_step_a_frame_as_the_label_says(label, frames, size, directions):
    data = MovingDigits(label, directions, frames, size, **SMALL)
    assert data.input_shape == (1, frames, size, size)
    steps = list(DIRECTIONS.values())[:directions]
    assert [len(y) for _, y in data.splits[:3]] == [67, 41, 43]
    for clips, (_, y), known in zip(grey(data), data.splits[:3], digits_of(), strict=True):
        for clip, truth in zip(clips[:, 0], y.tolist(), strict=True):
            assert answers(clip, known, steps)[label] == {truth}


@pytest.mark.parametrize(
    ("label", "directions", "names"),
    [
        ("digit", 8, "0 1 2 3 4 5 6 7 8 9"),
        ("direction", 4, "right down left up"),
        ("direction", 8, "right down left up down_right down_left up_left up_right"),
    ],
)
def test_the_description_names_the_classes_and_all_of_them_come(label, directions, names):
    data = MovingDigits(label, directions)
    assert (data.task, data.output_size, data.class_names) == ("multiclass", len(names.split()), names.split())
    for _, y in data.splits[:3]:
        shares = torch.bincount(y, minlength=data.output_size) / len(y)
        assert (shares * data.output_size).sub(1).abs().max() < 0.4


def test_digits_of_one_split_are_in_no_other():
    train, validation, test = map(set, digits_of())
    assert not train & test
    assert not train & validation
    assert not validation & test


def test_clips_are_normalised_by_the_training_split_and_black_is_the_background():
    data = MovingDigits(**SMALL)
    x = data.splits.train[0]
    assert (x.dtype, x.shape) == (torch.float32, (67, 1, 8, 16, 16))
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert data.pixels.black.item() == x.min().item()


def test_seeds_fix_what_they_say():
    first = MovingDigits(**SMALL).splits
    order = MovingDigits(**SMALL, seed=1).splits
    other = MovingDigits(**SMALL, split_seed=1).splits
    more = MovingDigits(**SMALL | {"test_clips": 50}).splits
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first[:3], order[:3], strict=True))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(first[:3], other[:3], strict=True))
    assert torch.equal(first.train[0], more.train[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "digits"}, "unknown label 'digits'; did you mean 'digit'"),
        ({"directions": 6}, "directions must be 4 or 8, not 6"),
        ({"frames": 1}, "frames must be at least 2, not 1"),
        ({"size": 7}, "size must be at least 8, not 7"),
        ({"clips": 0}, "clips must be at least 1, not 0"),
        ({"test_clips": -1}, "test_clips must be at least 1, not -1"),
        ({"split_seed": -1}, "split_seed must be at least 0, not -1"),
    ],
)
def test_arguments_of_moving_digits_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        MovingDigits(**options)


# Folders of clips

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
        return ClipFolder(str(path), **defaults | options)

    return make


def read(data):
    return data.splits


def test_clips_of_both_kinds_are_split_by_class(clips, load):
    data = load(clips)
    assert (data.task, data.input_shape, data.class_names) == ("binary", (3, 5, 4, 6), ["down", "up"])
    found = {}
    for x, y in data.splits[:3]:
        assert x.dtype == torch.uint8
        for clip, label in zip(x.float(), y.tolist(), strict=True):
            found[round(clip[:, 0, 0].mean().item() / 10)] = label
    assert found == {number: float(number < 7) for number in range(18)}


@pytest.mark.parametrize("where", ["file", "none"])
def test_batches_are_the_same_wherever_the_clips_are_kept(clips, load, where):
    for options in ({}, {"channels": 1, "seed": 5}):
        for first, second in zip(
            load(clips, cache="memory", **options).train_dataloader(),
            load(clips, cache=where, **options).train_dataloader(),
            strict=True,
        ):
            assert all(map(torch.equal, first, second))


def test_a_frame_that_changes_makes_a_cached_file_anew(clips, load):
    before = load(clips, cache="file").splits.train[0].clone()
    for path in clips.glob("*/*/frame_1.png"):
        Image.new("RGB", (50, 50), "white").save(path)
    after = load(clips, cache="file").splits.train[0]
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


def shorten(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def cut_mp4(folder):
    shorten(write_clip(folder / "x.mp4"), 0.5)  # its table of contents is at its end


def cut_streamed_mp4(folder):
    shorten(write_clip(folder / "x.mp4", movflags="faststart"), 0.5)


def cut_avi(folder):
    shorten(write_clip(folder / "x.avi"), 0.5)


def empty(folder):
    (folder / "x.mkv").touch()


def sound_only(folder):
    with av.open(str(folder / "x.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


def cut_frame(folder):
    shorten(write_frames(folder / "x", [50] * 5) / "frame_3.png", 0.5)


@pytest.mark.parametrize("damage", [cut_mp4, cut_streamed_mp4, cut_avi, empty, sound_only, cut_frame])
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
        ({"frames": 0}, "frames must be at least 1, not 0"),
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
data: {class_path: CLASS, batch_size: 4}
trainer: {max_epochs: 1}
"""


def test_the_commands_train_on_clips(clips, workplace):
    for name in ("clips.MovingDigits", "clip_folder.ClipFolder"):
        (workplace / "clips.yaml").write_text(RECIPE.replace("CLASS", f"unvanish.data.{name}"))
        words = [f"--data.path={clips}", "--data.image_size=4"] if "Folder" in name else ["--data.clips=60"]
        assert main(["fit", "-c", "clips.yaml", *words]) == 0
    assert main(["predict", "-c", "clips.yaml"]) == 0
    assert list(pd.read_csv("runs/clips/2/predictions.csv"))[2:] == ["probability_down", "probability_up"]
