import numpy as np
import pytest
import torch

from tests.data.conftest import Bytes
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Jsonl, Text
from trainer.data.tables import order
from trainer.errors import UserError

LETTERS = "".join(chr(97 + i % 26) for i in range(801))


def text(batches):
    return ["".join(map(chr, row)) for b in batches for row in b.x[: b.size].tolist()]


def test_sequences_follow_one_another_with_one_token_in_common(write):
    opened = open_data(Text(train=write("t.txt", LETTERS), validation=None), Bytes(), seed=1)
    found = text(opened.train.sequential(batch_size=7))
    assert found == [LETTERS[i * 8 : i * 8 + 9] for i in range(100)]
    (first, *_) = opened.train.stream(seed=1, epoch=0, batch_size=7)
    assert first.x.dtype == torch.int64
    assert first.y is None
    assert (opened.schema.text, opened.schema.columns, opened.schema.rows) == (True, 8, 100)


def test_a_validation_fraction_is_the_end_of_the_text(write):
    opened = open_data(Text(train=write("t.txt", LETTERS), validation=0.1), Bytes(), seed=1)
    assert (opened.train.rows, opened.validation.rows) == (90, 10)
    assert text(opened.validation.sequential(batch_size=3))[0] == LETTERS[720:729]
    assert text(opened.train.sequential(batch_size=90))[-1] == LETTERS[712:721]


def test_every_sequence_is_seen_once_an_epoch_also_in_windows(write, monkeypatch):
    monkeypatch.setattr(order, "WINDOW", 160)  # ten sequences
    opened = open_data(Text(train=write("t.txt", LETTERS), validation=None), Bytes(), seed=1)
    found = text(opened.train.stream(seed=1, epoch=0, batch_size=7))
    assert len(found) == 100
    assert sorted(found) == sorted(text(opened.train.sequential(batch_size=7)))


def test_files_come_in_order_of_their_names(write, tmp_path):
    write("set/2.txt", LETTERS[400:])
    write("set/1.txt", LETTERS[:400])
    opened = open_data(Text(train=str(tmp_path / "set"), validation=None), Bytes(), seed=1)
    assert text(opened.train.sequential(batch_size=100))[50] == LETTERS[400:409]


def test_a_text_too_short_says_how_many_tokens_it_has(write):
    with pytest.raises(UserError, match=r"data\.train is too short: 12 tokens make 1 sequences of 8"):
        open_data(Text(train=write("t.txt", LETTERS[:12])), Bytes(), seed=1)


@pytest.mark.parametrize("big", [1000, 100_000])
def test_tokens_are_kept_whatever_their_size_and_tokenized_once(write, big):
    calls = []

    class Words(Bytes):
        def tokenize(self, text):
            calls.append(text)
            return [ord(c) if c != "Z" else big for c in text]

        def tokenizer_key(self):
            return f"words-{big}"

    first, second = write("1.txt", LETTERS), write("2.txt", "Z" * 80)
    source = Text(train=[first, second], validation=None)
    x = torch.cat([b.x for b in open_data(source, Words(), seed=1).train.sequential(batch_size=50)])
    assert x[0, 0] == ord("a")
    assert x.max() == big
    open_data(source, Words(), seed=2)
    assert len(calls) == 2


def test_a_column_of_a_table_feeds_a_text_algorithm(write):
    lines = "".join(f'{{"n": {i}, "text": "{LETTERS[i * 10 : i * 10 + 10]}"}}\n' for i in range(80))
    path = write("rows.jsonl", lines)
    source = Jsonl(train=path, validation=None)
    source.check(takes_text=True)
    assert text(open_data(source, Bytes(), seed=1).train.sequential(batch_size=50))[0] == LETTERS[:9]
    rows = write("rows.csv", "title,text\n" + "aaaaaaaaaaaa,bbbbbbbbbbbbbbbbbbbbbb\n" * 9)
    with pytest.raises(UserError, match=r"which column is the text\? set data.columns=\[NAME\]; there is title, text"):
        open_data(Csv(train=rows), Bytes(), seed=1)
    opened = open_data(Csv(train=rows, columns=["text"], validation=None), Bytes(), seed=1)
    assert text(opened.train.sequential(batch_size=50))[0] == "b" * 9


def test_tokens_as_chunks_are_numpy(write):
    opened = open_data(Text(train=write("t.txt", LETTERS), validation=None), Bytes(), seed=1)
    x, y = next(opened.train.chunks(rank=1, world=2))
    assert isinstance(x, np.ndarray)
    assert (x.shape, y) == ((50, 9), None)
