"""Four short runs with dropout; between them batch statistics, augmentation, schedules, accumulation, clipping."""

_IMAGES = {"data.loading.batch_size": 64, "data.augmentation.crop": 1}

#: By family the recipe and what is changed of it.
FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "mlp": (
        "mlp/digits",
        {
            "model.hidden_sizes": [64, 64],
            "model.normalization": "batch",
            "model.training.regularization.max_norm": 3.0,
            "trainer.max_epochs": 4,
            **_IMAGES,
        },
    ),
    "cnn": (
        "cnn/digits",
        {"model.channels": [8, 16], "trainer.max_epochs": 4, "trainer.check_val_every_n_epoch": 2, **_IMAGES},
    ),
    "recurrent": (
        "recurrent/adding_gru",
        {
            "model.hidden_size": 8,
            "model.num_layers": 2,
            "model.training.regularization.dropout": 0.2,
            "model.training.schedule.name": "cosine",
            "model.training.schedule.warmup_steps": 10,
            "data.length": 10,
            "data.samples": 4000,
            "trainer.val_check_interval": 20,
        },
    ),
    "transformer": (
        "transformer/digits",
        {
            "model.num_layers": 2,
            "model.embedding_dim": 16,
            "trainer.max_epochs": 4,
            "trainer.accumulate_grad_batches": 2,
            **_IMAGES,
        },
    ),
}


def words(family: str) -> list[str]:
    """The command that trains it."""
    recipe, changes = FAMILIES[family]
    return ["fit", "-c", recipe, *(f"--{key}={value}" for key, value in changes.items())]
