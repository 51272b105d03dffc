"""Translates the config.yaml of a run of an earlier release to the present names of keys."""

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
_CACHES = {"auto": "memory", "none": "file"}


def renamed(config: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with the present keys; any other configuration is returned unchanged."""
    data = config.get("data")
    if not isinstance(data, dict) or not data.keys() >= {"batch_size", "device_resident"}:  # a run has every default
        return config
    if not str(data.get("class_path")).startswith("unvanish."):
        return config
    given = {new: data[old] for old, new in _OF_LOADING.items() if data.get(old) is not None}
    loading = {"split_seed": 0, "validation_share": 0.1, "test_share": 0.2} | given
    rest = {key: value for key, value in data.items() if key not in _OF_LOADING}
    if "cache" in rest:
        rest["cache"] = _CACHES.get(rest["cache"], rest["cache"])
    for module in ("clip_folder.ClipFolder", "image_folder.ImageFolder", "ClipFolder"):
        rest["class_path"] = rest["class_path"].replace(f".{module}", ".ImageFolder")
    return config | {"data": rest | {"loading": loading}}
