from dataclasses import fields, replace
from inspect import signature

from unvanish.data import Loading

LOADING = {field.name for field in fields(Loading)}


def build(cls, *args, **options):
    """A data module, with fields of its ``loading`` given like any other argument."""
    given = {name: options.pop(name) for name in LOADING & options.keys()}
    default = signature(cls).parameters["loading"].default
    return cls(*args, **options, loading=replace(default, **given))
