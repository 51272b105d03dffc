import os
import struct
import zlib

import numpy as np
import pytest
from pictures import HEIGHT, WIDTH, pixels
from PIL import Image, ImageDraw

from unvanish.data.image_decoder import ImageDecoder


def decode(path, size=(HEIGHT, WIDTH), channels=3):
    return ImageDecoder(*size, channels)(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp", "tif", "ppm"])
def test_pixels_of_a_lossless_file_are_read_as_they_are(tmp_path, suffix):
    image = Image.fromarray(pixels(0))
    if suffix == "gif":
        image = image.quantize(256)
    image.save(tmp_path / f"x.{suffix}", **{"lossless": True} if suffix == "webp" else {})
    assert np.array_equal(decode(tmp_path / f"x.{suffix}"), pixels(0).transpose(2, 0, 1))


def test_a_jpeg_of_many_pixels_is_scaled_down_to_its_content(tmp_path):
    image = Image.new("RGB", (800, 800), (200, 40, 90))
    image.paste((10, 220, 30), (0, 0, 800, 400))
    image.save(tmp_path / "x.jpg", quality=95)
    found = decode(tmp_path / "x.jpg", (10, 10)).astype(int)
    assert np.abs(found[:, :4] - np.array([10, 220, 30])[:, None, None]).max() <= 6
    assert np.abs(found[:, 6:] - np.array([200, 40, 90])[:, None, None]).max() <= 6


def test_an_image_keeps_its_proportions_and_loses_its_sides(tmp_path):
    image = Image.new("RGB", (40, 10), "red")
    image.paste("blue", (15, 0, 25, 10))
    image.save(tmp_path / "wide.png")
    image.rotate(90, expand=True).save(tmp_path / "high.png")
    for name in ("wide", "high"):
        assert np.array_equal(decode(tmp_path / f"{name}.png", (10, 10)), np.full((3, 10, 10), 255) * BLUE)


BLUE = np.array([0, 0, 1])[:, None, None]


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(pixels(0)).save(tmp_path / "x.png", exif=exif)
    expected = np.rot90(pixels(0), k=-1).transpose(2, 0, 1)
    assert np.array_equal(decode(tmp_path / "x.png", (WIDTH, HEIGHT)), expected)


def test_grey_is_what_pillow_calls_luminance(tmp_path):
    Image.fromarray(pixels(0)).save(tmp_path / "x.png")
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(tmp_path / "x.png", channels=1)[0] - pixels(0) @ weights).max() <= 1


def test_16_bits_become_8(tmp_path):
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 1800
    Image.fromarray(values).save(tmp_path / "x.png")
    for channels in (1, 3):
        assert (decode(tmp_path / "x.png", channels=channels) == values >> 8).all()


@pytest.mark.parametrize("palette", [False, True])
def test_what_is_transparent_is_black(tmp_path, palette):
    image = Image.new("RGBA", (WIDTH, HEIGHT), (200, 100, 50, 255))
    ImageDraw.Draw(image).rectangle((0, 0, 2, HEIGHT), (255, 255, 255, 0))
    (image.quantize(4) if palette else image).save(tmp_path / "x.png")
    found = decode(tmp_path / "x.png")
    assert (found[:, :, :3] == 0).all()
    assert (found[:, :, 3:] == np.array([200, 100, 50])[:, None, None]).all()


def deep_png(path, values):
    """A PNG of 16 bits a channel, (height, width, 3)."""
    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


@pytest.mark.parametrize("most", [255, 4095])
def test_16_bits_of_which_few_are_used_are_not_made_black(tmp_path, most):
    values = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * most // (HEIGHT * WIDTH - 1)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    with pytest.raises(
        ValueError, match=f"^its 16-bit pixels reach only {most} and would look black; set white, such as 4095$"
    ):
        decode(tmp_path / "x.png")
    found = ImageDecoder(HEIGHT, WIDTH, 1, white=most)(tmp_path / "x.png")[0]
    assert np.array_equal(found, values.astype(int) * 256 // (most + 1))
    assert (found.min(), found.max()) == (0, 255)
    deep_png(tmp_path / "deep.png", np.repeat(values[:, :, None], 3, axis=2))
    with pytest.raises(
        ValueError, match=r"^its 16-bit pixels use less than a sixteenth of their " r"range and would look black$"
    ):
        decode(tmp_path / "deep.png")


def test_black_images_and_bright_ones_of_16_bits_are_read(tmp_path):
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert not decode(tmp_path / "x.png").any()
    deep_png(tmp_path / "deep.png", np.full((HEIGHT, WIDTH, 3), 40000))
    assert (decode(tmp_path / "deep.png") == 40000 >> 8).all()


@pytest.mark.parametrize("white", [0, 65536])
def test_a_white_that_16_bits_lack_is_refused(white):
    with pytest.raises(ValueError, match=f"^white must lie between 1 and 65535, not {white}$"):
        ImageDecoder.of_size(8, 1, white)


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"^not a regular file$"):
        decode(tmp_path / "x.png")
