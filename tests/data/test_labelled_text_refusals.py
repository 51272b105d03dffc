import pytest
from build import build

from unvanish.data.labelled_text import LabelledText


def load(folder, content):
    (folder / "rows.csv").write_text(content)
    return build(LabelledText, str(folder / "rows.csv"), text="text", label="label", batch_size=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,label\n" + "a b,x\nc d,y\n" * 9 + '"e f,x\ng h,y\ni j",x\n',
            "the text of row 19 contains other rows; is a quot",
        ),
        (
            "label,text\n" + "x,a b\ny,c d\n" * 9 + 'x,"e f\ny,g h\nx,i j"\n',
            "the text of row 19 contains other rows; is a quot",
        ),
        (
            "text,label\n" + "a b,yes\nc d,no\n" * 9 + "e f,Yes\n",
            "labels 'yes' and 'Yes', the latter in row 19, differ only in",
        ),
        ("text,label,label\n" + "a b,x,y\nc d,y,x\n" * 9, "2 columns are called 'label'"),
        ("text,label\na b,x\nc\0 d,y\n", "has a NUL character in line 3"),
    ],
)
def test_files_that_could_be_read_in_two_ways_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"rows.csv:? ?.*{message}") as refusal:
        _ = load(tmp_path, content).splits
    assert "\n" not in str(refusal.value)


def test_a_text_may_have_lines_and_commas(tmp_path):
    rows = '"a, b\nc",x\n"d, e\nf, g",y\n' * 9
    assert sum(len(y) for _, y in load(tmp_path, "text,label\n" + rows).splits[:3]) == 18
