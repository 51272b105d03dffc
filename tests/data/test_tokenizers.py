import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from unvanish.data.tokenizers import CHARACTERS, WORDS, BytePairTokenizer, ListTokenizer

ENGLISH = topics["lambda"] + topics["strings"]
FOREIGN = [
    "naïve café",
    "e\u0301 is not é",
    "世界 hello 🙂",
    "हिन्दी",
    "\r\n\t \0 two  spaces ",
    "\ufeff<padding>[UNK]",
    "",
]


def padded(texts, unit=WORDS, size=None):
    return ListTokenizer(texts, unit, size, padded=True)


def test_characters_are_numbered_in_alphabetical_order():
    tokenizer = ListTokenizer(["hello"], CHARACTERS)
    assert tokenizer.vocabulary_size == 4
    assert tokenizer.encode("hole") == [1, 3, 2, 0]
    assert tokenizer.decode([1, 0, 2, 2, 3]) == "hello"


def test_characters_are_read_back_as_they_were():
    tokenizer = ListTokenizer([ENGLISH, *FOREIGN], CHARACTERS)
    assert tokenizer.vocabulary_size == len(set(ENGLISH.join(FOREIGN)))
    for text in (ENGLISH, *FOREIGN):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("abé!", "'!', 'é'"),
        ("a\u200bb\n", r"'\n', '\u200b'"),
        ("a b", "' '"),
        ("abcdefghijklmno", "'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l' and 3 more"),
        ("b\udcff", r"'\udcff'"),
    ],
)
def test_unknown_characters_are_refused_by_name(text, lacking):
    with pytest.raises(ValueError, match=r"^the vocabulary of 2 characters lacks ") as refusal:
        ListTokenizer(["abba"], CHARACTERS).encode(text)
    assert str(refusal.value) == f"the vocabulary of 2 characters lacks {lacking}"


def test_words_are_in_lower_case_and_apart_from_punctuation():
    tokenizer = ListTokenizer(["The cat, the dog!!!"], WORDS)
    assert tokenizer.vocabulary_size == 5  # !!! , cat dog the
    assert tokenizer.encode("the DOG, the cat!!!") == [4, 3, 1, 4, 2, 0]
    assert tokenizer.decode([4, 2, 0]) == "the cat !!!"


def test_words_keep_their_combining_marks():
    assert len(ListTokenizer(["हिन्दी भाषा"], WORDS).encode("हिन्दी भाषा")) == 2


def test_padded_words_reserve_two_numbers_and_need_to_occur_twice():
    tokenizer = padded(["a b b", "c c c a", "once"])
    assert tokenizer.vocabulary_size == 2 + 3
    assert tokenizer.encode("a b c once new") == [2, 3, 4, 1, 1]
    assert tokenizer.decode([2, 1, 4, 0, 0]) == "a \ufffd c"


def test_the_most_frequent_tokens_stay_and_of_equals_the_first_of_the_alphabet():
    assert padded(["d d c c b b b a a"], size=2 + 2).encode("a b c d") == [2, 3, 1, 1]
    assert padded(["ddccbbbaa"], CHARACTERS, 2 + 3).encode("abcd") == [2, 3, 4, 1]


def test_a_text_cannot_spell_the_reserved_tokens():
    tokenizer = ListTokenizer(["a a", ""], CHARACTERS, padded=True)
    assert tokenizer.encode("\ufffd") == [1]
    assert not {0, 1} & set(BytePairTokenizer([ENGLISH], 300, padded=True).encode(FOREIGN[-2]))


@pytest.mark.parametrize("reserved", [False, True])
def test_byte_pairs_write_every_text(reserved):
    tokenizer = BytePairTokenizer([ENGLISH], 509, padded=reserved)
    assert tokenizer.vocabulary_size == 509
    for text in (ENGLISH, *FOREIGN):
        ids = tokenizer.encode(text)
        assert all(2 * reserved <= index < 509 for index in ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([*ids, *[0] * 3 * reserved]) == text


def test_byte_pairs_merge_the_most_frequent_pair_first():
    tokenizer = BytePairTokenizer(["abab abab abab xy"], 256 + 3)  # ab, abab, " abab"; xy occurs once
    lengths = [len(tokenizer.encode(text)) for text in ("ab", "abab", " abab", "ba", "xy")]
    assert (tokenizer.vocabulary_size, lengths) == (259, [1, 1, 1, 2, 2])
    assert BytePairTokenizer(["abab abab abab xy"], 1000).vocabulary_size == 259


def test_byte_pairs_shift_by_the_reserved_numbers_alone():
    plain, shifted = BytePairTokenizer([ENGLISH], 400), BytePairTokenizer([ENGLISH], 402, padded=True)
    assert [index + 2 for index in plain.encode(ENGLISH)] == shifted.encode(ENGLISH)


def test_byte_pairs_are_the_same_in_every_process():
    program = "import test_tokenizers as t; print(t.BytePairTokenizer([t.ENGLISH], 509).encode(t.ENGLISH))"
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "5", "PYTHONPATH": folders}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert json.loads(found.stdout) == BytePairTokenizer([ENGLISH], 509).encode(ENGLISH)


@pytest.mark.parametrize(("size", "reserved", "least"), [(255, False, 256), (257, True, 258)])
def test_a_bpe_vocabulary_without_room_for_the_bytes_is_refused(size, reserved, least):
    with pytest.raises(ValueError, match=f"^a bpe vocabulary of {size} is too small; the bytes alone are {least}$"):
        BytePairTokenizer(["abc"], size, padded=reserved)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        BytePairTokenizer(["abc"], 256).encode("b\udcff")


@pytest.mark.parametrize(
    "tokenizer", [ListTokenizer([ENGLISH], CHARACTERS), padded([ENGLISH]), BytePairTokenizer([ENGLISH], 300)]
)
def test_tokenizers_can_be_sent_to_another_process(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode(ENGLISH) == tokenizer.encode(ENGLISH)


def test_words_of_any_length_are_cut_where_no_token_spans():
    """Without a bound this never ends: the time of a word grows by the square of its length."""
    letters = "".join(np.random.default_rng(0).choice(list("abcde"), 300_000))
    tokenizer = BytePairTokenizer([letters], 300)
    ids = tokenizer.encode(letters)
    assert tokenizer.decode(ids) == letters
    assert len(ids) < 200_000
