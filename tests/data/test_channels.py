"""What a script finds of its channels: which objects, under which names, whose, and as what stream."""

from __future__ import annotations

import gzip
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import served
from trainer.data.channel.folders import Folders
from trainer.data.channel.spec import Channel
from trainer.data.channels import Channels
from trainer.errors import UserError
from trainer.testing.chaos.s3 import Server


@pytest.fixture
def s3() -> Iterator[Server]:
    with served(seed=1) as server:
        yield server


def lay(given: Any, data: Path, host: int = 0, hosts: int = 1) -> Any:
    """Lays the channel `ch` into a folder. Returns its feed, if it is a stream."""
    data.mkdir(parents=True, exist_ok=True)
    feed, _ = Folders(Channels(channels={"ch": given}).all()).lay("ch", data, host, hosts)
    return feed


def found(data: Path) -> dict[str, str]:
    """What a script finds in the channel."""
    walked = [Path(folder, name) for folder, _, names in os.walk(data / "ch", followlinks=True) for name in names]
    return {path.relative_to(data / "ch").as_posix(): path.read_text() for path in walked}


def put(s3: Server, *keys: str) -> None:
    for key in keys:
        s3.put("bucket", key, f"<{key}>".encode())


# which objects, and their names


def test_a_prefix_matches_as_keys_do(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/train/a.csv", "data/train/sub/b.csv", "data/train.csv", "data/train-2/c.csv", "data/other", "top.csv")
    s3.put("bucket", "data/train/", b"")  # as a browser makes a folder
    below = {"a.csv": "data/train/a.csv", "sub/b.csv": "data/train/sub/b.csv"}
    beside = {"train-2/c.csv": "data/train-2/c.csv"}
    for number, (address, names) in enumerate(
        {
            "data/train": {**below, **beside, "train.csv": "data/train.csv"},
            "data/train/": below,
            "data/train.csv": {"train.csv": "data/train.csv"},
            "data/train-": beside,
            "data/train/s": {"sub/b.csv": "data/train/sub/b.csv"},
            "top": {"top.csv": "top.csv"},
        }.items()
    ):
        lay(f"s3://bucket/{address}", tmp_path / str(number))
        assert found(tmp_path / str(number)) == {name: f"<{key}>" for name, key in names.items()}, address


def test_a_whole_bucket_is_a_channel(s3: Server, tmp_path: Path) -> None:
    put(s3, "a", "b/c")
    lay("s3://bucket", tmp_path)
    assert found(tmp_path) == {"a": "<a>", "b/c": "<b/c>"}


def test_objects_are_as_they_are_now_whatever_was_brought_before(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/a", "data/b")
    lay("s3://bucket/data/", tmp_path / "one")
    s3.put("bucket", "data/a", b"<other>")  # as many bytes
    with s3.lock:
        del s3.buckets["bucket"]["data/b"]
    (tmp_path / "one/ch/b").resolve().chmod(0o644)
    lay("s3://bucket/data/", tmp_path / "two")
    assert found(tmp_path / "two") == {"a": "<other>"}


def test_what_a_script_writes_over_is_brought_again(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/a")
    lay("s3://bucket/data/", tmp_path / "one")
    path = (tmp_path / "one/ch/a").resolve()
    path.chmod(0o644)
    path.write_text("<mine!>")
    lay("s3://bucket/data/", tmp_path / "two")
    assert found(tmp_path / "two") == {"a": "<data/a>"}


def test_a_key_that_is_no_path_below_the_channel_is_refused(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/a", "data/../up")
    with pytest.raises(UserError, match="is no path below"):
        lay("s3://bucket/data/", tmp_path / "one")


def test_two_objects_of_one_name_are_refused(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/tr/train.csv", "data/train.csv")
    with pytest.raises(UserError, match=r"data/tr/train.csv and data/train.csv would both be train.csv"):
        lay("s3://bucket/data/tr", tmp_path)


def test_nothing_at_an_address_is_told(s3: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing at s3://bucket/data/x"):
        lay("s3://bucket/data/x", tmp_path)


# manifests


def test_a_manifest_names_the_objects(s3: Server, tmp_path: Path) -> None:
    put(s3, "in/x/a", "in/x/b", "in/y/c")
    manifest = [{"prefix": "s3://bucket/in/"}, "x/b", "y/c", "x/b"]
    s3.put("bucket", "lists/one.manifest", json.dumps(manifest).encode())
    lay({"s3_data": "s3://bucket/lists/one.manifest", "s3_data_type": "ManifestFile"}, tmp_path)
    assert found(tmp_path) == {"x/b": "<in/x/b>", "y/c": "<in/y/c>"}


def test_a_local_manifest_names_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "list").write_text(json.dumps([{"prefix": "in/"}, "c", "a"]))
    lay({"s3_data": str(tmp_path / "list"), "s3_data_type": "ManifestFile"}, tmp_path / "data")
    assert found(tmp_path / "data") == {"a": "a", "c": "c"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "is no JSON"),
        ("[]", "is no manifest"),
        ('["a"]', "is no manifest"),
        ('[{"prefix": ""}, "a"]', "is no manifest"),
        ('[{"prefix": "in/"}, 3]', "holds names, and nothing else"),
        ('[{"prefix": "in/"}, "nowhere"]', "there is no in/nowhere"),
        ('[{"prefix": "in/"}]', "there is nothing at"),
        ('[{"prefix": "in/"}, "../list"]', "is no path below"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "list").write_text(text)
    with pytest.raises(UserError, match=words):
        lay({"s3_data": str(tmp_path / "list"), "s3_data_type": "ManifestFile"}, tmp_path / "data")


# whose


@pytest.mark.parametrize("where", ["s3", "local"])
def test_hosts_share_the_objects_by_their_keys(s3: Server, tmp_path: Path, where: str) -> None:
    names = [f"{number:02d}.csv" for number in range(7)]
    put(s3, *(f"data/{name}" for name in names))
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_text("x")
    address = "s3://bucket/data" if where == "s3" else str(tmp_path / "in")
    shares = []
    for host in range(3):
        lay({"s3_data": address, "distribution": "ShardedByS3Key"}, tmp_path / str(host), host, 3)
        shares.append(sorted(found(tmp_path / str(host))))
    assert shares == [names[0::3], names[1::3], names[2::3]]


def test_more_hosts_than_objects_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "only").write_text("x")
    given = {"ch": {"s3_data": str(tmp_path / "in"), "distribution": "ShardedByS3Key"}}
    (tmp_path / "data").mkdir()
    _, told = Folders(Channels(channels=given).all()).lay("ch", tmp_path / "data", 1, 3)
    assert told == "data.channels.ch: 1 objects for 3 hosts: 2 of them get none"
    assert found(tmp_path / "data") == {}
    assert (tmp_path / "data" / "ch").is_dir()


# streams


def records(data: bytes) -> list[bytes]:
    told = []
    while data:
        magic, length = struct.unpack_from("<II", data)
        assert magic == 0xCED7230A
        told.append(data[8 : 8 + length])
        data = data[8 + length + (-length % 4) :]
    return told


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes a stream of what is in the folder `in`, and gives the folder of its FIFOs."""
    feeds = []
    (tmp_path / "in").mkdir()

    def make(address: str = str(tmp_path / "in"), host: int = 0, hosts: int = 1, **more: Any) -> Path:
        data = tmp_path / f"data-{len(feeds)}"
        feeds.append(lay({"s3_data": address, "input_mode": "Pipe", **more}, data, host, hosts))
        return data

    yield make
    for feed in feeds:
        feed.close()


def test_each_epoch_is_a_fifo_of_all_objects(s3: Server, pipe: Callable[..., Path]) -> None:
    s3.put("bucket", "data/b", b"B" * 3_000_000)
    put(s3, "data/a", "data/c")
    data = pipe("s3://bucket/data/")
    for epoch in range(3):
        assert [path.name for path in data.iterdir()] == [f"ch_{epoch}"]
        assert (data / f"ch_{epoch}").read_bytes() == b"<data/a>" + b"B" * 3_000_000 + b"<data/c>"
        until(lambda epoch=epoch: not (data / f"ch_{epoch}").exists())  # type: ignore[misc]


def test_a_reader_may_leave_early(tmp_path: Path, pipe: Callable[..., Path]) -> None:
    (tmp_path / "in/a").write_bytes(bytes(range(256)) * 40_000)
    data = pipe()
    with open(data / "ch_0", "rb") as file:
        assert file.read(5) == bytes(range(5))
    until(lambda: (data / "ch_1").exists())
    with open(data / "ch_1", "rb") as file:
        assert len(file.read()) == 256 * 40_000


def test_nobody_has_to_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(bytes(10_000_000))
    never = lay({"s3_data": str(tmp_path / "in"), "input_mode": "Pipe"}, tmp_path / "one")
    never.close()
    slow = lay({"s3_data": str(tmp_path / "in"), "input_mode": "Pipe"}, tmp_path / "two")
    with open(tmp_path / "two" / "ch_0", "rb") as file:
        file.read(1)
        slow.close()  # in the middle of it
    assert not [*(tmp_path / "one").iterdir(), *(tmp_path / "two").iterdir()]  # nothing that others would wait for
    assert not [thread for thread in threading.enumerate() if thread.name == "feed-ch"]


def test_objects_are_unpacked_and_wrapped_as_asked(tmp_path: Path, pipe: Callable[..., Path]) -> None:
    (tmp_path / "in/a.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    (tmp_path / "in/b.gz").write_bytes(gzip.compress(b"three"))
    assert (pipe(compression="Gzip") / "ch_0").read_bytes() == b"one\ntwo\nthree"
    wrapped = (pipe(compression="Gzip", record_wrapping="RecordIO") / "ch_0").read_bytes()
    assert records(wrapped) == [b"one\ntwo\n", b"three"]
    assert len(wrapped) % 4 == 0


def test_objects_are_shuffled_anew_each_epoch_and_go_from_host_to_host(
    tmp_path: Path, pipe: Callable[..., Path]
) -> None:
    names = [f"{number}" for number in range(8)]
    for name in names:
        (tmp_path / f"in/{name}").write_bytes(name.encode())
    one = pipe(shuffle_config={"seed": 3})
    orders = [(one / f"ch_{epoch}").read_text() for epoch in range(3)]
    assert len(set(orders)) == 3
    assert all(sorted(order) == names for order in orders)
    again = pipe(shuffle_config={"seed": 3})
    assert [(again / f"ch_{epoch}").read_text() for epoch in range(3)] == orders
    hosts = [pipe(host=host, hosts=2, shuffle_config={"seed": 3}, distribution="ShardedByS3Key") for host in (0, 1)]
    shares = [[(host / f"ch_{epoch}").read_text() for host in hosts] for epoch in range(3)]
    assert all(sorted(one + other) == names for one, other in shares)
    assert len({one for one, _ in shares}) > 1


def test_an_augmented_manifest_streams_its_attributes(s3: Server, pipe: Callable[..., Path]) -> None:
    put(s3, "images/1", "images/2")
    lines = [{"source-ref": f"s3://bucket/images/{n}", "label": n, "more": {"a": [n]}, "unused": 0} for n in (1, 2)]
    s3.put("bucket", "list", "\n".join(json.dumps(line) for line in lines).encode())
    asked = {"s3_data_type": "AugmentedManifestFile", "record_wrapping": "RecordIO"}
    data = pipe("s3://bucket/list", attribute_names=["source-ref", "more", "label"], **asked)
    told = records((data / "ch_0").read_bytes())
    assert told == [b"<images/1>", b'{"a":[1]}', b"1", b"<images/2>", b'{"a":[2]}', b"2"]
    with pytest.raises(UserError, match="line 1 has no attribute size"):
        pipe("s3://bucket/list", attribute_names=["size"], **asked)


@pytest.mark.parametrize("what", ["gone", "no .gz", "cut off"])
def test_a_stream_that_can_not_be_read_to_its_end_has_none(tmp_path: Path, what: str) -> None:
    good = gzip.compress(os.urandom(100_000))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(good)
    (tmp_path / "in/b").write_bytes({"gone": good, "no .gz": b"plain", "cut off": good[:-10]}[what])
    feed = lay({"s3_data": str(tmp_path / "in"), "input_mode": "Pipe", "compression": "Gzip"}, tmp_path / "data")
    if what == "gone":
        (tmp_path / "in/b").unlink()
    with open(tmp_path / "data/ch_0", "rb") as file:
        assert len(file.read(100_000)) == 100_000
        until(lambda: feed.error)
        assert feed.error.startswith("data.channels.ch: epoch 0: ")
        feed.close()


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# what is said of one


def test_inputdataconfig_says_what_is_said_of_a_channel(tmp_path: Path) -> None:
    given = {"s3_data": str(tmp_path), "content_type": "text/csv", "distribution": "ShardedByS3Key"}
    asked = {"s3_data": "s3://b/k", "input_mode": "Pipe", "record_wrapping": "RecordIO", "compression": None}
    assert Folders(Channels(channels={"one": str(tmp_path), "two": given, "three": asked}).all()).described() == {
        "one": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"},
        "two": {"ContentType": "text/csv", "TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key"}
        | {"RecordWrapperType": "None"},
        "three": {"TrainingInputMode": "Pipe", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "RecordIO"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"distribution": "ShardedByS3Key"}, "names no file, folder or s3:// address"),
        ({"s3_data": "s3://b/k", "input_mod": "Pipe"}, "a channel has no input_mod; did you mean 'input_mode'"),
        ({"s3_data": "s3://b/k", "input_mode": "pipe"}, "'pipe' is not a choice; did you mean 'Pipe'"),
        ({"s3_data": "s3://b/k", "distribution": "Sharded"}, "distribution: 'Sharded' is not a choice; did you mean"),
        ({"s3_data": "s3://b/k", "compression": "Gzip"}, "Gzip is for input_mode=Pipe; this channel's is File"),
        ({"s3_data": "s3://b/k", "record_wrapping": "RecordIO"}, "RecordIO is for input_mode=Pipe"),
        ({"s3_data": "s3://b/k", "s3_data_type": "AugmentedManifestFile", "attribute_names": ["a"]}, "is read by"),
        ({"s3_data": "s3://b/k", "input_mode": "Pipe", "s3_data_type": "AugmentedManifestFile"}, "attribute_names"),
        ({"s3_data": "s3://b/k", "input_mode": "Pipe", "attribute_names": ["a"]}, "and nothing else has"),
        ({"s3_data": "s3://b/k", "attribute_names": "a"}, "'a' is not a list of names"),
        (
            {"s3_data": "s3://b/k", "input_mode": "FastFile", "s3_data_type": "ManifestFile"},
            "FastFile reads an S3Prefix",
        ),
        ({"s3_data": "s3://b/k", "shuffle_config": {}}, "holds no seed; write data.channels.ch.shuffle_config.seed=1"),
        ({"s3_data": "s3://b/k", "instance_groups": ["a"]}, "all hosts of a job are alike here"),
        ({"s3_data": "s3://"}, "names no bucket"),
        ({"s3_data": "/nowhere"}, "there is no file or folder /nowhere"),
        (3, "names no file, folder"),
    ],
)
def test_what_can_not_be_is_refused_in_a_line(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        Channel.of("ch", given)
    assert str(told.value).startswith("data.channels.ch")
    assert "\n" not in str(told.value)


def test_a_channel_may_be_spelled_as_the_service_has_it() -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/k", "S3DataDistributionType": "ShardedByS3Key"}
    given = {"ChannelName": "train", "DataSource": {"S3DataSource": source}, "ContentType": "text/csv"}
    given |= {
        "CompressionType": "None",
        "RecordWrapperType": "RecordIO",
        "InputMode": "Pipe",
        "ShuffleConfig": {"Seed": 3},
    }
    same = {"s3_data": "s3://b/k", "distribution": "ShardedByS3Key", "content_type": "text/csv"}
    same |= {"record_wrapping": "RecordIO", "input_mode": "Pipe", "shuffle_config": {"seed": 3}}
    assert Channel.of("ch", given) == Channel.of("ch", same)
    with pytest.raises(UserError, match="a channel has no DataSource"):
        Channel.of("ch", {"DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}})


def test_a_fast_file_channel_takes_whole_folders(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/train/a", "data/train.csv")
    lay({"s3_data": "s3://bucket/data/train/", "input_mode": "FastFile"}, tmp_path / "one")
    assert found(tmp_path / "one") == {"a": "<data/train/a>"}
    with pytest.raises(UserError, match="FastFile takes whole folders"):
        lay({"s3_data": "s3://bucket/data/train", "input_mode": "FastFile"}, tmp_path / "two")


def test_a_stream_and_a_channel_of_a_fifos_name_do_not_go_together() -> None:
    with pytest.raises(UserError, match="train is a Pipe and has FIFOs of that name"):
        Channels(channels={"train": {"s3_data": "s3://b/k", "input_mode": "Pipe"}, "train_0": "s3://b/x"}).all()


def test_whoever_is_no_script_gets_whole_channels(s3: Server, tmp_path: Path) -> None:
    put(s3, "data/a", "data/sub/b")
    channels = {"ch": "s3://bucket/data", "one": "s3://bucket/data/a", "here": str(tmp_path)}
    paths = Folders(Channels(channels=channels).all()).channels
    assert (paths["ch"] / "sub/b").read_text() == "<data/sub/b>"
    assert paths["one"].read_text() == "<data/a>"
    assert paths["here"] == tmp_path
    with pytest.raises(UserError, match="Pipe is for algorithm=script"):
        Folders({"ch": Channel.of("ch", {"s3_data": "s3://bucket/data", "input_mode": "Pipe"})}).channels  # noqa: B018
