from unvanish import MLP, Recurrent, Training
from unvanish.command.fixes import change_of

SIGMOID = {"hidden_sizes": [8, 8], "activation": "sigmoid", "initialization": "normal(0.1)"}


def test_a_rule_s_remedy_is_the_change_of_a_recipe():
    model = MLP(input_shape=(4,), output_size=3, training=Training(task="multiclass"), **SIGMOID)
    change = change_of(model.hparams, None, 400)
    assert change("ReLU with He initialization") == {"model.activation": "relu", "model.initialization": "he_normal"}
    assert change("Xavier initialization with tanh") == {
        "model.activation": "tanh",
        "model.initialization": "xavier_normal",
    }
    assert change("batch or layer normalization") == {"model.normalization": "batch"}
    assert change("a higher learning rate, such as 0.01 in place of 0.001") == {
        "model.training.optimizer.learning_rate": 0.01
    }
    assert change("gradient clipping") == {"trainer.gradient_clip_val": 1.0}


def test_what_is_there_already_or_what_no_recipe_can_do_is_no_change():
    model = MLP(input_shape=(4,), output_size=3, training=Training(task="multiclass"), **SIGMOID, residual=True)
    change = change_of(model.hparams, 1.0, 400)
    assert change("residual connections") == {}
    assert change("gradient clipping") == {}
    assert change("a look at some inputs with their targets") == {}


def test_a_recurrent_network_s_cells_are_a_change():
    model = Recurrent(
        input_shape=(5, 2), output_size=1, hidden_size=4, cell="rnn", training=Training(task="regression")
    )
    change = change_of(model.hparams, None, 400)
    assert change("LSTM or GRU cells instead of tanh cells") == {"model.cell": "lstm", "model.activation": "tanh"}
