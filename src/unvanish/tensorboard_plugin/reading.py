"""Reads what the monitor has written, through TensorBoard's data provider."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

from tensorboard import errors
from tensorboard.data import provider

from unvanish.page import QUANTITIES, Packed, packed, shown
from unvanish.page.matrix import thinned
from unvanish.page.quantities import LAYERS, STATE, TAB
from unvanish.tensorboard_plugin.all_layers import AllLayers

#: Of each curve TensorBoard keeps as many.
POINTS = 1000
#: Where layers are known from, the better first: a float32 of delta itself ends at 1e-45.
_DELTAS = ("delta_log10", "delta_rms")
#: Old logs have the norm itself.
_STATES = ("dh_log10", "dh_norm")
_STATE = re.compile(rf"(?:{'|'.join(_STATES)})/(.+)/t(\d+)")
_SUMMARY, _VERDICT = "gradient/summary", "gradient/verdict"
#: What came of a run, the best first; the last point of it.
_SCORES = {
    "test/{}": "test",
    "hparams/best_score": "best validation",
    "hparams/best_val_{}": "best validation",  # of old logs
    "val/{}": "validation",
}
_METRICS = ("accuracy", "auroc", "perplexity", "rmse", "r2", "loss")
_SCORE_TAGS = [kind.format(metric) for kind in _SCORES for metric in _METRICS]
_OLD_VERDICT = re.compile(
    r"\*\*(?P<name>[^*]+)\*\* after (?P<steps>\d+) steps: (?P<evidence>.*?)\.\n\n\*\*Why:\*\* (?P<cause>[^\n]*)"
    r"(?:\n\n\*\*Try\*\* (?P<remedies>[^\n]*)\.)?",
    re.DOTALL,
)


class _Tag(NamedTuple):
    quantity: str
    layer: str


@final
class Reader:
    """The data of one request.

    Args:
        data: TensorBoard's data provider.
        context: Of the request.
        experiment: Which is asked for; empty where there is one.
    """

    def __init__(self, data: Any, context: Any, experiment: str) -> None:
        self._data, self._asked = data, {"ctx": context, "experiment_id": experiment}

    @cached_property
    def _listed(self) -> Mapping[str, Mapping[str, Any]]:
        """By run and tag the scalars that there are."""
        found: Mapping[str, Mapping[str, Any]] = self._data.list_scalars(**self._asked, plugin_name="scalars")
        return found

    def layer_tags(self) -> dict[str, dict[str, list[str]]]:
        """By run and quantity the layers that have a curve, from the input as far as their names tell."""
        found: dict[str, dict[str, list[str]]] = {}
        for run, tags in self._listed.items():
            parts = [_Tag(*tag.split("/", 1)) for tag in tags if "/" in tag]
            layers = {tag.layer for tag in parts if tag.quantity in (*_DELTAS, "gradient_norm")}
            if not layers:
                continue
            for tag in sorted(parts, key=lambda tag: _natural(tag.layer)):
                # The residual stream is measured at sums, which are none of the layers.
                if tag.layer in layers or tag.quantity == "stream_norm":
                    found.setdefault(run, {}).setdefault(tag.quantity, []).append(tag.layer)
        return found

    def runs(self) -> list[dict[str, Any]]:
        """All runs with gradients: what the monitor says of each, or of old ones what their texts say."""
        tags = self.layer_tags()
        if not tags:
            return []
        summaries = self._texts(TAB, _SUMMARY, list(tags))
        verdicts = self._texts("text", _VERDICT, [run for run in tags if run not in summaries])
        sums = self._last(list(tags), ["gradient/first_over_last", *_SCORE_TAGS])
        states = self._states(list(tags))
        found = []
        for run in sorted(tags, key=_natural):
            layers = _ordered([], {layer for names in tags[run].values() for layer in names})
            known = json.loads(summaries[run]) if run in summaries else _old(verdicts.get(run, ""), sums.get(run, {}))
            found.append(
                {
                    "layers": layers,
                    **known,
                    "name": run,
                    "score": _score(sums.get(run, {})),
                    "titles": {name: shown(name).title for name in _in_menu_order(map(_name, tags[run]))},
                    "recurrent": list(states.get(run, {})),
                    "charted": len(tags[run].get("delta_log10", tags[run].get("delta_rms", ()))),
                    "stamp": max(series.max_step for series in self._listed[run].values()),
                }
            )
        return found

    def matrices(self, runs: Sequence[str], quantity: str, points: int = POINTS) -> dict[str, Packed]:
        """A quantity by layer and step, for each run that has it; at most so many points of a curve.

        Raises:
            NotFoundError: there is no such run, or none of them has the quantity.
        """
        tags = self._known(runs)
        names = [*_DELTAS] if quantity == "delta" else [quantity]
        chosen = {run: name for run in runs if (name := next((n for n in names if n in tags[run]), None))}
        if not chosen:
            raise errors.NotFoundError(f"no {quantity} in {', '.join(runs)}")
        orders = {run: json.loads(text)["layers"] for run, text in self._texts(TAB, _SUMMARY, runs).items()}
        deep = self._all_layers(runs)
        wanted = {f"{name}/{layer}" for run, name in chosen.items() for layer in tags[run][name]}
        curves = self._curves(list(chosen), wanted, points)
        looks = shown(quantity)
        found = {}
        for run, name in chosen.items():
            if run in deep and quantity in deep[run].quantities:
                found[run] = thinned(deep[run].matrix(quantity), points)
                continue
            layers = _ordered(orders.get(run, []), tags[run][name])
            rows = {layer: curves[run][f"{name}/{layer}"] for layer in layers}
            found[run] = packed(looks.title, rows, log=looks.log, is_log_already=name == "delta_log10")
        return found

    def times(self, runs: Sequence[str]) -> dict[str, dict[str, Packed]]:
        """|dL/dh_t| by run and recurrent layer: a row for each t.

        Raises:
            NotFoundError: there is no such run.
        """
        self._known(runs)
        states = self._states(runs)
        wanted = {tag for layers in states.values() for times in layers.values() for tag in times.values()}
        curves = self._curves(list(states), wanted) if wanted else {}
        return {
            run: {
                layer: packed(
                    STATE.title,
                    {str(t): curves[run][tag] for t, tag in times.items()},
                    log=STATE.log,
                    is_log_already=next(iter(times.values())).startswith("dh_log10"),
                )
                for layer, times in states.get(run, {}).items()
            }
            for run in runs
        }

    def layer(self, run: str, layer: str) -> dict[str, Any]:
        """All curves of a layer, and its last histogram.

        Raises:
            NotFoundError: there is no such run, or no such layer in it.
        """
        tags = self._known([run])[run]
        chosen = [quantity for quantity, layers in tags.items() if layer in layers]
        if not chosen and (deep := self._all_layers([run]).get(run)) and (found := deep.layer(layer)):
            return {"quantities": found, "histogram": deep.histogram(layer)}
        if not chosen:
            raise errors.NotFoundError(f"no layer {layer} in {run}")
        curves = self._curves([run], {f"{quantity}/{layer}" for quantity in chosen})[run]
        quantities: dict[str, Packed] = {}
        for quantity in chosen:
            name = _name(quantity)
            if name and not (quantity == "delta_rms" and "delta_log10" in chosen):
                looks = shown(name)
                rows = {layer: curves[f"{quantity}/{layer}"]}
                is_log = quantity == "delta_log10"
                quantities[name] = packed(looks.title, rows, log=looks.log, is_log_already=is_log)
        quantities = {name: quantities[name] for name in _in_menu_order(quantities)}
        return {"quantities": quantities, "histogram": self._histogram(run, f"gradient_log10/{layer}")}

    def _known(self, runs: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        tags = self.layer_tags()
        for run in runs:
            if run not in tags:
                raise errors.NotFoundError(f"no run {run} with gradients")
        return tags

    def _states(self, runs: Collection[str]) -> dict[str, dict[str, dict[int, str]]]:
        """By run, recurrent layer and t the tags of |dL/dh_t|."""
        found: dict[str, dict[str, dict[int, str]]] = {}
        for run in runs:
            for tag in sorted(self._listed[run]):
                if match := _STATE.fullmatch(tag):
                    found.setdefault(run, {}).setdefault(match[1], {})[int(match[2])] = tag
        return found

    def _curves(
        self, runs: Collection[str], tags: Collection[str], points: int = POINTS
    ) -> dict[str, dict[str, dict[int, float]]]:
        read = self._data.read_scalars(
            **self._asked,
            plugin_name="scalars",
            downsample=points,
            run_tag_filter=provider.RunTagFilter(runs=runs, tags=tags),
        )
        return {
            run: {tag: {point.step: point.value for point in curve} for tag, curve in series.items()}
            for run, series in read.items()
        }

    def _last(self, runs: Collection[str], tags: Collection[str]) -> dict[str, dict[str, float]]:
        """The first and the last number of each: of the first by the tag with a star."""
        curves = self._curves(runs, tags)
        last = {run: {tag: [*points.values()][-1] for tag, points in series.items()} for run, series in curves.items()}
        for run, series in curves.items():
            last[run] |= {f"{tag}*": next(iter(points.values())) for tag, points in series.items()}
        return last

    def _texts(self, plugin: str, tag: str, runs: Collection[str]) -> dict[str, str]:
        """The last text under a tag, by run."""
        return {
            run: bytes(series[tag][-1].numpy.flat[0]).decode("utf-8", "replace")
            for run, series in self._tensors(plugin, runs, [tag]).items()
            if series.get(tag)
        }

    def _tensors(self, plugin: str, runs: Collection[str], tags: Collection[str] | None = None) -> Any:
        """What a plugin has of some runs, by run and tag."""
        chosen = provider.RunTagFilter(runs=runs, tags=tags)
        asked = {"plugin_name": plugin, "downsample": POINTS, "run_tag_filter": chosen}
        return self._data.read_tensors(**self._asked, **asked) if runs else {}

    def _all_layers(self, runs: Collection[str]) -> dict[str, AllLayers]:
        """Of the runs those that have more layers than TensorBoard's own pages show."""
        blocks = {
            run: [series[tag][-1].numpy.flat[0] for tag in sorted(series) if tag.startswith(f"{LAYERS}/")]
            for run, series in self._tensors(TAB, runs).items()
        }
        return {run: AllLayers(found) for run, found in blocks.items() if found}

    def _histogram(self, run: str, tag: str) -> dict[str, Any] | None:
        """The last one: log10 of the edges, and the counts between."""
        points = self._tensors("histograms", [run], [tag]).get(run, {}).get(tag, ())
        if not points:
            return None
        buckets = [(float(low), float(high), float(count)) for low, high, count in points[-1].numpy if count > 0]
        return {"step": points[-1].step, "buckets": buckets}


def _name(quantity: str) -> str:
    """What a tag's first part is called on the page; empty where it is part of another."""
    return "delta" if quantity in _DELTAS else "" if quantity in ("gradient_log10", *_STATES) else quantity


def _in_menu_order(names: Iterable[str]) -> list[str]:
    there = dict.fromkeys(filter(None, names))
    return [*(name for name in QUANTITIES if name in there), *(name for name in there if name not in QUANTITIES)]


def _natural(name: str) -> list[Any]:
    """Sorts layer 2 before layer 10, and the output behind all."""
    parts = [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name) if part]
    return [name in ("output", "head", "fc"), parts]


def _ordered(order: Sequence[str], layers: Collection[str]) -> list[str]:
    known = [layer for layer in order if layer in layers]
    return known + sorted(set(layers) - {*known}, key=_natural)


def _score(sums: Mapping[str, float]) -> dict[str, Any] | None:
    for metric in _METRICS:
        for tag, words in _SCORES.items():
            value = sums.get(tag.format(metric), math.nan)
            is_named = "{}" in tag or f"val/{metric}" in sums  # the best score has one name for all metrics
            if math.isfinite(value) and is_named:
                return {"name": f"{words} {metric}", "value": value}
    return None


def _old(verdict: str, sums: Mapping[str, float]) -> dict[str, Any]:
    """What an event file without a summary says in its other parts."""
    ratios = (sums.get("gradient/first_over_last*", math.nan), sums.get("gradient/first_over_last", math.nan))
    start, end = (ratio if math.isfinite(ratio) else str(ratio) for ratio in ratios)
    found = [match.groupdict() for match in _OLD_VERDICT.finditer(verdict)]
    return {
        "verdict": found[0]["name"] if found else "unknown",
        "evidence": found[0]["evidence"] if found else "",
        "steps": int(found[0]["steps"]) if found else 0,
        "first_over_last": {"start": start, "end": end},
        "findings": [
            {
                **{key: one[key] for key in ("name", "evidence", "cause")},
                "layers": [],
                "about": [],
                "remedies": one["remedies"].split(", "),
            }
            for one in found
            if one["remedies"]
        ],
    }
