"""What TensorBoard's HParams tab compares jobs by: their hyperparameters, as its plugin stores them beside the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.config.code.signature import short_name
from trainer.config.overrides.dotted import settings

PLUGIN = "hparams"
START, END = "_hparams_/session_start_info", "_hparams_/session_end_info"
TRAIN = ("batch_size", "epochs", "max_steps", "precision", "gradient_clip", "gradient_accumulation")


def chosen(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """The algorithm, its data and their settings, and those of training that change what is learned."""
    found: dict[str, bool | float | str] = {}
    for noun in ("algorithm", "data"):
        if target := config.get(noun, {}).get("_target_"):
            found[noun] = short_name(str(target))
    own = settings(config.get("algorithm", {}), "algorithm.")
    of_training = settings({key: config.get("train", {}).get(key) for key in TRAIN}, "train.")
    for key, value in (*own, *of_training):
        if value is not None:
            found[key] = value if isinstance(value, bool | int | float) else str(value)
    seed = config.get("job", {}).get("seed")
    return found if seed is None else {**found, "job.seed": seed}


def started(config: Mapping[str, Any], name: str, when: float) -> Any:
    """The protocol buffer that begins a session. when: in seconds since 1970."""
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    info = data.SessionStartInfo(group_name=name, start_time_secs=when)
    for key, value in chosen(config).items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, str):
            info.hparams[key].string_value = value
        else:
            info.hparams[key].number_value = float(value)
    return _summary(START, data.HParamsPluginData(session_start_info=info))


def ended(completed: bool, when: float) -> Any:
    """The protocol buffer that ends a session."""
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    status = api_pb2.STATUS_SUCCESS if completed else api_pb2.STATUS_FAILURE
    return _summary(
        END, data.HParamsPluginData(session_end_info=data.SessionEndInfo(status=status, end_time_secs=when))
    )


def _summary(tag: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN, content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])
