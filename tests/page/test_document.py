import re

import pytest

from unvanish.page import document, framed, html, packed, read, write

RUN = {"name": "a</script><b>", "layers": ["x"], "quantities": {"delta": packed("d", {"x": {0: 1.0}}, log=True)}}


def test_the_runs_of_a_page_can_be_read_again(tmp_path):
    write(tmp_path / "report.html", [RUN])
    assert read(tmp_path / "report.html") == [RUN]


def test_what_is_no_page_is_said(tmp_path):
    (tmp_path / "other.html").write_text("<p>no runs</p>")
    with pytest.raises(ValueError, match=r"other\.html is no page of runs"):
        read(tmp_path / "other.html")


def test_no_name_ends_a_script():
    page = html([RUN], title="</title><script>")
    assert page.count("</script>") == 2  # the data's and the component's
    assert "</title><script>" not in page


def test_a_page_asks_for_nothing():
    page = html([RUN])
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"^import ", page, re.MULTILINE)
    assert not re.search(r"\b(src|href)=", page)


def test_a_frame_holds_the_page_and_keeps_it_apart():
    frame = framed([RUN])
    assert frame.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    assert frame.count('"') == 6  # nothing within the page ends an attribute


def test_each_module_takes_what_those_before_it_export_and_no_two_export_one_name():
    exported = set()
    for name in document.SCRIPTS:
        module = document.source(name)
        taken = re.findall(r'^import \{([^}]*)\} from "\./([a-z]+\.js)";$', module, re.MULTILINE)
        for words, origin in taken:
            assert document.SCRIPTS.index(origin) < document.SCRIPTS.index(name)
            assert {word.strip() for word in words.split(",")} <= exported
        own = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", module, re.MULTILINE)
        assert len(own) == len(re.findall(r"^export ", module, re.MULTILINE)) > 0
        assert not exported.intersection(own)
        exported |= set(own)


def test_no_file_of_the_component_is_longer_than_its_idea():
    for name in (*document.SCRIPTS, document.STYLE):
        assert document.source(name).count("\n") <= 350, name
