import pytest

import unvanish
from unvanish.command.errors import WrongInputError

SMALL = {"model.hidden_sizes": [7], "trainer.max_epochs": 1}


def test_a_comparison_in_python_is_data_frames_and_a_page(workplace):
    found = unvanish.compare("mlp/wine", keys=SMALL, grid={"model.activation": ["relu", "tanh"]}, out="here")
    assert repr(found) == "Comparison(2 variants, 2 runs, 'here')"
    assert list(found.table.index) == ["activation=relu", "activation=tanh"]
    assert found.table["test_mean"].between(0, 1).all()
    assert found.runs["error"].tolist() == ["", ""]
    assert found.differing.loc["model.activation"].tolist() == ["relu", "tanh"]
    html = found._repr_html_()
    assert "<th>test accuracy</th>" in html
    assert "<iframe srcdoc=" in html
    assert found._repr_png_().startswith(b"\x89PNG")
    again = unvanish.compare("here/activation=relu/seed0", "here/activation=tanh/seed0", out="again")
    assert again.runs["test"].tolist() == found.runs["test"].tolist()
    with pytest.raises(WrongInputError, match="no recipe 'mlp/wines'"):
        unvanish.compare("mlp/wines")
