"""dL/dh_t of a recurrent layer, at a few times: weight gradients hide vanishing through time."""

from unvanish.gradients.quantities.quantity import Field, Reduction, Scale

#: Times, evenly spaced from the first to the last, at which the state's gradient is read.
TIMES = 8
#: |dL/dh_t| at those times; and how many passes there were and of what length, since t must mean the same in all.
STATES = tuple(Field(Reduction.NORM, Scale.SHARE, is_share=True) for _ in range(TIMES))
PASSES, LENGTH, LENGTH_SQUARE = (Field(is_share=True) for _ in range(3))
