"""The tab Gradients: what it serves, and nothing else."""

from collections.abc import Callable
from typing import Any, final

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.plugins import base_plugin
from werkzeug import Request, Response

from unvanish.page.document import SCRIPTS, STYLE, source
from unvanish.page.quantities import TAB
from unvanish.tensorboard_plugin.reading import POINTS, Reader

#: Runs in one request, at most.
_RUNS = 100
_ENTRY = """\
import { show } from "./app.js";
import { served } from "./model.js";

export function render() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("style.css", import.meta.url).href;
  link.onload = () => show(document.body, served(new URL(".", import.meta.url)));
  document.head.append(link);
}
"""


@final
class GradientsPlugin(base_plugin.TBPlugin):  # type: ignore[misc]  # TensorBoard has no types
    """Shows, run by run and layer by layer, where gradients go. Reads what ``GradientMonitor`` has written."""

    plugin_name = TAB

    def __init__(self, context: Any) -> None:
        self._provider = context.data_provider

    def get_plugin_apps(self) -> dict[str, Any]:
        """Each file by its name, so that no path leads elsewhere, and the data."""
        files = {f"/{name}": _file(name) for name in (*SCRIPTS, STYLE)}
        data = {"/runs": self._runs, "/matrix": self._matrix, "/times": self._times, "/layer": self._layer}
        return {"/index.js": _text(_ENTRY, "text/javascript"), **files} | {
            route: _answering(answer) for route, answer in data.items()
        }

    def is_active(self) -> bool:
        """Whether there is a run with gradients; asked without a request, of the default experiment."""
        return self._provider is not None and bool(self._reader().layer_tags())

    def frontend_metadata(self) -> Any:
        """A module, in a frame of its own."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Gradients")

    def data_plugin_names(self) -> tuple[str, ...]:
        """Whose data it reads."""
        return TAB, "scalars", "histograms", "text"

    def _reader(self, request: Request | None = None) -> Reader:
        environ = {} if request is None else request.environ
        return Reader(self._provider, plugin_util.context(environ), plugin_util.experiment_id(environ))

    def _runs(self, request: Request) -> Any:
        return self._reader(request).runs()

    def _matrix(self, request: Request) -> Any:
        return self._reader(request).matrices(_asked(request, "run"), _one(request, "quantity"), _points(request))

    def _times(self, request: Request) -> Any:
        return self._reader(request).times(_asked(request, "run"))

    def _layer(self, request: Request) -> Any:
        return self._reader(request).layer(_one(request, "run"), _one(request, "layer"))


def _asked(request: Request, name: str) -> list[str]:
    values = request.args.getlist(name)
    if not 1 <= len(values) <= _RUNS:
        raise errors.InvalidArgumentError(f"{name} is given {len(values)} times; it must be 1 to {_RUNS}")
    return values


def _one(request: Request, name: str) -> str:
    values = request.args.getlist(name)
    if len(values) != 1:
        raise errors.InvalidArgumentError(f"{name} is given {len(values)} times; it must be given once")
    return str(values[0])


def _points(request: Request) -> int:
    words = _one(request, "points")
    if not (words.isascii() and words.isdigit() and 1 <= int(words) <= POINTS):
        raise errors.InvalidArgumentError(f"points is {words}; it must be 1 to {POINTS}")
    return int(words)


def _answering(answer: Callable[[Request], Any]) -> Any:
    @Request.application
    def app(request: Request) -> Response:
        if request.method != "GET":
            return _respond(request, f"{request.method} is not allowed", "text/plain", 405)
        try:
            return _respond(request, answer(request), "application/json", 200)
        except errors.PublicError as error:
            return _respond(request, str(error), "text/plain", error.http_code)

    return app


def _file(name: str) -> Any:
    return _text(source(name), "text/css" if name == STYLE else "text/javascript")


def _text(content: str, content_type: str) -> Any:
    return Request.application(lambda request: _respond(request, content, content_type, 200))


def _respond(request: Request, content: Any, content_type: str, code: int) -> Response:
    found: Response = http_util.Respond(request, content, content_type, code=code)
    return found
