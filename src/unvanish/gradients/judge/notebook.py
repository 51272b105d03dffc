"""How reports, diagnoses and verdicts look in a notebook."""

from typing import Any

# The only way from the judge to what shows it: a notebook asks the object itself for its looks.


class Displayed:
    """Shows itself as a page in a notebook, and as a picture where there are no pages."""

    def _repr_html_(self) -> str:
        from unvanish.gradients.show.notebook import html_of  # noqa: PLC0415 - not before it is shown

        return html_of(self)

    def _repr_png_(self) -> Any:
        from unvanish.gradients.show.notebook import png_of  # noqa: PLC0415 - brings Pillow

        return png_of(self)
