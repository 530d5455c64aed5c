"""One channel: where its data is and how a script sees it, in the words of SageMaker's `TrainingInput`.

    training: s3://bucket/prefix                                   the same as {s3_data: s3://bucket/prefix}
    training: {s3_data: data/train, distribution: ShardedByS3Key}  local paths are taken wherever s3:// ones are
    training: {DataSource: {S3DataSource: {S3Uri: …}}, …}          as the service itself has it

Imports nothing heavy: whoever only submits a job imports this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from trainer.errors import UserError, did_you_mean

NAME = re.compile(r"[A-Za-z0-9._-]+")
S3 = "s3://"
PREFIX, MANIFEST, AUGMENTED = "S3Prefix", "ManifestFile", "AugmentedManifestFile"
FILE, FAST_FILE, PIPE = "File", "FastFile", "Pipe"
REPLICATED, SHARDED = "FullyReplicated", "ShardedByS3Key"
GZIP, RECORDIO = "Gzip", "RecordIO"
CHOICES = {
    "s3_data_type": (PREFIX, MANIFEST, AUGMENTED),
    "distribution": (REPLICATED, SHARDED),
    "input_mode": (FILE, FAST_FILE, PIPE),
    "compression": (None, GZIP),
    "record_wrapping": (None, RECORDIO),
}
ATTRIBUTES = 16  # of an augmented manifest, at most
OF_SERVICE = {  # what the service calls the same
    "S3Uri": "s3_data",
    "S3DataType": "s3_data_type",
    "S3DataDistributionType": "distribution",
    "AttributeNames": "attribute_names",
    "InstanceGroupNames": "instance_groups",
    "ContentType": "content_type",
    "CompressionType": "compression",
    "RecordWrapperType": "record_wrapping",
    "InputMode": "input_mode",
    "ShuffleConfig": "shuffle_config",
}
ELSEWHERE = {
    "instance_groups": "all hosts of a job are alike here",
    "target_attribute_name": "it is for SageMaker's AutoML",
}


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What is said of one. seed: of the order of its objects, anew each epoch; None leaves them in the order of their keys."""

    name: str
    s3_data: str
    s3_data_type: str = PREFIX
    distribution: str = REPLICATED
    input_mode: str = FILE
    content_type: str | None = None
    compression: str | None = None
    record_wrapping: str | None = None
    attribute_names: tuple[str, ...] = ()
    seed: int | None = field(default=None, metadata={"key": "shuffle_config"})

    KEYS: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, name: str, given: Any) -> Channel:
        """Raises UserError for what can't be had."""
        where = f"data.channels.{name}"
        if not NAME.fullmatch(name) or not name.strip("."):
            raise UserError(f"{where}: a channel's name is of letters, digits and . _ -")
        told = _named(given) if isinstance(given, Mapping) else {"s3_data": given}
        for key in told:
            if key in ELSEWHERE:
                raise UserError(f"{where}.{key}: {ELSEWHERE[key]}")
            if key not in cls.KEYS:
                raise UserError(f"{where}: a channel has no {key}; {did_you_mean(str(key), cls.KEYS)}")
        if not isinstance(told.get("s3_data"), str) or not told["s3_data"]:
            raise UserError(f"{where}: it names no file, folder or s3:// address; write {where}.s3_data=PATH")
        for key, choices in CHOICES.items():
            if told.get(key) in (None, "None"):
                told.pop(key, None)
            elif told[key] not in choices:
                known = [one for one in choices if one]
                raise UserError(f"{where}.{key}: {told[key]!r} is not a choice; {did_you_mean(str(told[key]), known)}")
        seed = _seed(told.pop("shuffle_config", None), where)
        names = told.pop("attribute_names", None) or ()
        if isinstance(names, str) or not all(isinstance(one, str) for one in names):
            raise UserError(f"{where}.attribute_names: {names!r} is not a list of names")
        content = told.pop("content_type", None)
        found = cls(
            name=name,
            seed=seed,
            attribute_names=tuple(names),
            content_type=None if content is None else str(content),
            **told,
        )
        found._check(where)
        return found

    def _check(self, where: str) -> None:
        """What doesn't go together, as SageMaker has it too."""
        if self.input_mode != PIPE:
            for key in ("compression", "record_wrapping"):
                if value := getattr(self, key):
                    raise UserError(
                        f"{where}.{key}: {value} is for input_mode=Pipe; this channel's is {self.input_mode}"
                    )
            if self.s3_data_type == AUGMENTED:
                raise UserError(f"{where}.s3_data_type: an {AUGMENTED} is read by input_mode=Pipe")
        if self.input_mode == FAST_FILE and self.s3_data_type != PREFIX:
            raise UserError(f"{where}.input_mode: FastFile reads an S3Prefix, not a {self.s3_data_type}")
        if (self.s3_data_type == AUGMENTED) != bool(self.attribute_names):
            raise UserError(f"{where}.attribute_names: an {AUGMENTED} has them, and nothing else has")
        if len(self.attribute_names) > ATTRIBUTES:
            raise UserError(f"{where}.attribute_names: there are {len(self.attribute_names)}, and {ATTRIBUTES} at most")
        if self.is_remote:
            bucket, _, key = self.s3_data.removeprefix(S3).partition("/")
            if not bucket or (self.s3_data_type != PREFIX and not key):
                raise UserError(f"{where}: {self.s3_data!r} names no bucket; write {S3}BUCKET/PREFIX")
        elif not os.path.exists(self.s3_data):
            raise UserError(f"{where}: there is no file or folder {self.s3_data}")
        elif self.s3_data_type != PREFIX and not os.path.isfile(self.s3_data):
            raise UserError(f"{where}: {self.s3_data} is a folder, not a {self.s3_data_type}")

    @property
    def is_remote(self) -> bool:
        return self.s3_data.startswith(S3)

    def described(self) -> dict[str, str]:
        """What inputdataconfig.json says of it."""
        content = {} if self.content_type is None else {"ContentType": self.content_type}
        return {
            **content,
            "TrainingInputMode": self.input_mode,
            "S3DistributionType": self.distribution,
            "RecordWrapperType": self.record_wrapping or "None",
        }


Channel.KEYS = tuple(str(one.metadata.get("key", one.name)) for one in fields(Channel) if one.name != "name")


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """By TrainingInput's names, without the folds of the service's own."""
    source = given.get("DataSource")
    source = source.get("S3DataSource") if isinstance(source, Mapping) else None
    flat = {**given, **source} if isinstance(source, Mapping) else dict(given)
    if isinstance(source, Mapping):
        del flat["DataSource"]
        flat.pop("ChannelName", None)
    return {OF_SERVICE.get(key, key): value for key, value in flat.items()}


def _seed(given: Any, where: str) -> int | None:
    if given is None:
        return None
    seed = given.get("seed", given.get("Seed")) if isinstance(given, Mapping) else given
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"{where}.shuffle_config: {given!r} holds no seed; write {where}.shuffle_config.seed=1")
    return seed
