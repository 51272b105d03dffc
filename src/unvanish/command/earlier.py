"""Keys that the config.yaml of a run of an earlier release has, and what they are called now."""

from typing import Any

#: Arguments of data modules that are fields of ``loading`` since.
_OF_LOADING = {
    "batch_size": "batch_size",
    "split_seed": "split_seed",
    "data_seed": "split_seed",
    "validation_share": "validation_share",
    "test_share": "test_share",
    "device_resident": "device_resident",
}


def renamed(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a run has kept, with the keys of now; others stay."""
    data = config.get("data")
    if not isinstance(data, dict) or not data.keys() >= {"batch_size", "device_resident"}:  # a run has every default
        return config
    if not str(data.get("class_path")).startswith("unvanish."):
        return config
    given = {new: data[old] for old, new in _OF_LOADING.items() if data.get(old) is not None}
    loading = {"split_seed": 0, "validation_share": 0.1, "test_share": 0.2} | given
    rest = {key: value for key, value in data.items() if key not in _OF_LOADING}
    return config | {"data": rest | {"loading": loading}}
