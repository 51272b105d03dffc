from unvanish.command.earlier import renamed

KEPT = {"batch_size": 7, "device_resident": False, "split_seed": 3}
LOADING = {"validation_share": 0.1, "test_share": 0.2} | KEPT


def test_a_kept_configuration_is_said_in_the_words_of_now():
    for module in ("data.ClipFolder", "ClipFolder", "data.image_folder.ImageFolder", "data.clip_folder.ClipFolder"):
        path = f"unvanish.{module}"
        found = renamed(
            {"seed": 5, "data": {"class_path": path, "path": "x", "cache": "auto", "test_share": None} | KEPT}
        )
        room = path.removeprefix("unvanish.").partition(".")[0].removesuffix("ClipFolder")
        expected = ".".join(filter(None, ("unvanish", room, "ImageFolder")))
        data = {"class_path": expected, "path": "x", "cache": "memory", "loading": LOADING}
        assert found == {"seed": 5, "data": data}
    drawn = renamed({"data": {"class_path": "unvanish.SyntheticSequence", "data_seed": 4, **KEPT, "split_seed": None}})
    assert drawn["data"]["loading"] == LOADING | {"split_seed": 4}


def test_what_a_run_has_not_kept_stays_as_it_is():
    for data in ({"class_path": "unvanish.Images", "batch_size": 7}, {"class_path": "mine.Data"} | KEPT, None):
        assert renamed({"data": data}) == {"data": data}
