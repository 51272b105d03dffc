"""The exercises: one for each formula, named by its chapter's number and a letter."""

from dataclasses import dataclass
from string import ascii_lowercase

from unvanish.names import nearest

#: A chapter's title, and its formulas by module, in the order of the primer.
_CHAPTERS: dict[int, tuple[str, dict[str, str]]] = {
    1: ("the neuron", {"neuron": "neuron"}),
    2: ("layers and forward propagation", {"neuron": "layer layer_backward forward"}),
    3: (
        "losses",
        {
            "losses": "binary_cross_entropy binary_cross_entropy_derivative binary_cross_entropy_of_probability "
            "categorical_cross_entropy categorical_cross_entropy_derivative categorical_cross_entropy_of_probability "
            "mean_squared_error mean_squared_error_derivative"
        },
    ),
    4: ("backpropagation", {"backpropagation": "output_delta backward train"}),
    5: (
        "activations",
        {
            "activations": "sigmoid sigmoid_derivative tanh tanh_derivative relu relu_derivative leaky_relu "
            "leaky_relu_derivative log_sigmoid softmax log_softmax softmax_jacobian softmax_backward"
        },
    ),
    6: (
        "the vanishing gradient",
        {
            "vanishing": "gradient_after product_of_derivatives sigmoid_bound mean_square layer_factor next_variance",
        },
    ),
    7: (
        "the four fixes",
        {
            "initialization": "xavier_variance he_variance lecun_variance uniform_bound draw_normal",
            "normalization": "batch_norm batch_norm_backward running batch_norm_inference",
            "residual": "residual residual_derivative residual_jacobian residual_backward plain_product "
            "residual_product",
        },
    ),
    8: ("optimizers", {"optimizers": "sgd momentum rmsprop adam_start adam adam_with_l2 adamw"}),
    9: ("batches", {"batches": "batches_per_epoch batches gradient_variance"}),
    10: (
        "regularization",
        {"regularization": "l2 l2_gradient dropout_mask dropout dropout_backward dropout_mean_variance"},
    ),
    11: (
        "convolution",
        {
            "convolution": "output_size convolution convolution_backward max_pool max_pool_backward average_pool "
            "average_pool_backward",
        },
    ),
    12: (
        "recurrence",
        {
            "recurrent": "rnn_step rnn_step_backward rnn backpropagation_through_time lstm_gates lstm_step "
            "lstm_step_backward constant_error_carousel gru_step gru_step_backward",
        },
    ),
    13: (
        "attention",
        {
            "attention": "attention_weights attention attention_backward causal_mask multi_head multi_head_backward "
            "sinusoidal_positions",
            "normalization": "layer_norm layer_norm_backward",
        },
    ),
}


@dataclass(frozen=True)
class Exercise:
    """A formula that the reader writes.

    Args:
        name: Its chapter's number and a letter: 4b.
        chapter: The chapter's number.
        title: The chapter's title.
        module: The module of ``unvanish.formulas`` and of ``unvanish.exercises.proofs`` that has it.
        function: The formula's function, and its proof's.
    """

    name: str
    chapter: int
    title: str
    module: str
    function: str


def _exercises() -> dict[str, Exercise]:
    found = {}
    for chapter, (title, modules) in _CHAPTERS.items():
        functions = [(module, function) for module, words in modules.items() for function in words.split()]
        for letter, (module, function) in zip(ascii_lowercase, functions, strict=False):
            name = f"{chapter}{letter}"
            found[name] = Exercise(name, chapter, title, module, function)
    return found


EXERCISES = _exercises()


def find(name: str) -> Exercise:
    """The exercise of this name; the name of a formula will do.

    Raises:
        ValueError: there is none.
    """
    by_function = {exercise.function: exercise for exercise in EXERCISES.values()}
    found = by_function.get(name) or EXERCISES.get(name)
    if found is None:
        close = nearest(name, EXERCISES | by_function)
        raise ValueError(f"unknown exercise {name!r}{close}; `unvanish exercise` lists all {len(EXERCISES)}")
    return found
