// What each term means, in one sentence or two; shown on hover.
export const GLOSSARY = {
  "delta": "δ = ∂L/∂z: how much the loss changes when a layer's output changes. It is what backpropagation hands from layer to layer; where it is tiny, no layer before learns.",
  "gradient_norm": "∂L/∂W: the gradient of a layer's weights, as one length. The optimizer steps along it.",
  "update_ratio": "|ΔW| / |W|: how much of its own length a step changes a layer's weights. About 1e-3 is usual; 0 means that the layer stands still.",
  "activation_mean": "The mean of what a layer's activation function returns, over units and samples.",
  "activation_std": "How much a layer's activations differ over units and samples. Near 0, the layer says the same of every input.",
  "saturated_share": "The share of a sigmoid's or tanh's values that lie on its flat ends, where its derivative is nearly 0 and no gradient passes.",
  "dead_share": "The share of ReLU units that return 0 for every sample of the batch: they get no gradient.",
  "gradient_cosine": "How much ∂L/∂W points where it pointed one step before: 1 the same way, 0 at right angles, -1 back.",
  "stream_norm": "The gradient of the residual stream, the sum that shortcuts carry past each branch.",
  "verdict": "What is wrong with a run, in a word; healthy where nothing was found in what was looked at.",
  "healthy": "The gradient reaches every layer that was looked at, and nothing else was found.",
  "unknown": "Too little was seen for a verdict.",
  "vanishing": "The gradient shrinks from layer to layer on its way from the loss to the input, so that the first layers barely learn.",
  "exploding": "The gradient grows from layer to layer on its way from the loss to the input, so that steps are too large.",
  "vanishing through time": "The gradient shrinks from time step to time step, so that a recurrent network does not learn from what is long past.",
  "exploding through time": "The gradient grows from time step to time step on its way back through a sequence.",
  "first/last": "|δ| of the first layer over |δ| of the last. 1 is level; 1e-16 means that next to nothing gets through.",
  "layer": "A part of the network with weights of its own. Layers are in the order in which the input runs through them; the gradient runs the other way.",
  "step": "One update of the weights by the optimizer.",
  "one colour scale": "The same colour is the same number in every map. Dark is small. Of a gradient the scale ends at 1e-18 and at 10.",
  "theory": "What mean-field theory expects of such a network before training, from its weights and activations: dashed.",
  "spread": "Runs that differ by their seed alone are one line, their median; the shade reaches from the smallest to the largest.",
  "log10": "Powers of ten: one unit down is ten times less. A vanishing gradient looks like zero on any other axis.",
  "dh": "∂L/∂h_t: the gradient of a recurrent layer's state at time t. Where it falls to nothing on the way back from the last t, what came early is not learnt.",
  "first steps": "The median of the first ten steps that were measured.",
  "histogram": "How many numbers of ∂L/∂W there are of each magnitude, each bar a power of two.",
  "finding": "A fault by its name: the numbers that show it, why it harms, and what to try, what helps most first.",
  "recipe line": "The keys of the recipe that this remedy changes; on the command line --key=value.",
  "score": "What came of the run: of its test split, else of its validation.",
  "nan": "Not a number: something has overflowed, or 0 was divided by 0. From there on nothing is learnt.",
  "exactly 0": "No gradient at all, not a small one.",
  "seed": "What weights, dropout and the order of the batches are drawn from.",
};

// Sorts names of quantities as they are here, and behind them those that are not.
export function inOrder(a, b) {
  const terms = Object.keys(GLOSSARY);
  const place = (name) => (terms.includes(name) ? terms.indexOf(name) : terms.length);
  return place(a) - place(b);
}

// The glossary's words for a term; of a name that it does not know, none.
export function meaning(term) {
  return GLOSSARY[term] ?? "";
}
