import pytest
from build import build
from pictures import HEIGHT, WIDTH, write

from unvanish.data import ImageFolder


@pytest.fixture
def pets(tmp_path):
    """A folder of 53 images: 13 cats, 17 dogs and 23 owls."""
    write(tmp_path / "pets")
    return tmp_path / "pets"


@pytest.fixture
def image_folder(tmp_path):
    """Makes an ImageFolder that keeps the images' own size and leaves nothing behind."""

    def make(path, **options):
        defaults = {"image_size": [HEIGHT, WIDTH], "batch_size": 6, "cache_folder": str(tmp_path / "cache")}
        return build(ImageFolder, str(path), **defaults | options)

    return make
