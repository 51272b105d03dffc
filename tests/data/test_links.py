import pytest
from pictures import write


def test_links_are_followed_once(pets, image_folder, tmp_path):
    """A class that is a link is read; links that make one image many are refused, whatever the loop."""
    write(tmp_path / "far", {"": 8}, 100)
    (pets / "fox").symlink_to(tmp_path / "far", target_is_directory=True)
    assert image_folder(pets).class_names == ["cat", "dog", "fox", "owl"]
    assert sum(len(y) for _, y in image_folder(pets).splits[:3]) == 61
    (pets / "cat" / "more").symlink_to(tmp_path / "far", target_is_directory=True)
    with pytest.raises(ValueError, match=r"fox/100.png and .*cat/more/100.png are the same file, through a link$"):
        _ = image_folder(pets).splits


@pytest.mark.parametrize("target", ["cat", "."])
def test_links_that_lead_back_are_refused(pets, image_folder, target):
    (pets / "cat" / "again").symlink_to(pets / target, target_is_directory=True)
    (pets / "dog" / "again").symlink_to(pets / target, target_is_directory=True)
    with pytest.raises(ValueError, match=r"are the same (folder|file), through a link$"):
        _ = image_folder(pets).splits


def test_a_link_to_an_image_of_another_class_is_refused(pets, image_folder):
    (pets / "owl" / "x.png").symlink_to(pets / "cat" / "000.png")
    with pytest.raises(ValueError, match=r"owl/x.png and .*cat/000.png are the same file, through a link$"):
        _ = image_folder(pets).splits
