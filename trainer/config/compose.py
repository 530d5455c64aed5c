"""Hydra, as Headway uses it: the schema it composes onto, its errors in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from trainer.config import plugins
from trainer.config.conf_files import choices, groups, join, own_choices
from trainer.config.hydra_plugins import register as plug
from trainer.config.overrides.quoting import unreadable
from trainer.config.overrides.synonyms import flags_first, here
from trainer.config.schema import TARGETS, Config
from trainer.errors import UserError, did_you_mean
from trainer.process.environment import variables

CONFIG_MODULE = "pkg://conf"
OPEN = ("algorithm", "data", "launcher", "tracking")  # groups that may have keys of the user's own
SINGLE = (
    *OPEN,
    "train",
    "strategy",
    "checkpoint",
    "job",
    "tune",
    "search",
    "scheduler",
    "study",
    "ray",
)  # one choice counts
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.chdir", "hydra.output_subdir")
PRIMARY = ("config", "tune")
SWEEPER = "hydra.sweeper."
PARAMS = "hydra.sweeper.params"
FULL_ERROR = "HYDRA_FULL_ERROR"
SPACE = "_space_"  # under `algorithm`: what `headway tune` searches unless it is given a space


class SearchPath(SearchPathPlugin):
    """The config files of plugins, after Headway's own: of two of a name, Headway's counts."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder, origin in plugins.conf_folders().items():
            search_path.append(origin, f"file://{folder}")


def register(name: str = "headway_schema", schema: type = Config) -> None:
    """Makes a schema known to Hydra under the name that the primary config asks for."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=name, node=schema, provider="headway")


def plain(config: Any, overrides: list[str], *, space: bool = False) -> dict[str, Any]:
    """A composed config as plain dicts, interpolations resolved. Raises UserError for a value that is missing.

    space: keep the recommended space in it, for `recommended`; a job's config has none.

    Where an override names another class, `algorithm._target_=mine.Mine`, the settings that the choice's file had
    for its own class go: only those given as overrides beside it are meant for the new one.
    """
    from omegaconf import OmegaConf

    with one_line_errors():
        composed = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    given = [override.lstrip("+").split("=", 1)[0] for override in overrides]
    for noun in TARGETS:
        if f"{noun}._target_" in given:
            meant = {key.split(".")[1] for key in given if key.startswith(f"{noun}.")}
            composed[noun] = {key: value for key, value in composed[noun].items() if key in meant}
    if not space and isinstance(composed.get("algorithm"), dict):
        composed["algorithm"].pop(SPACE, None)
    return composed


def recommended(config: dict[str, Any]) -> dict[str, Any]:
    """Takes the space that an algorithm's config recommends out of a config that was composed with `space=True`.

    Its keys are the whole config's: `lr` there is `algorithm.lr` here, and `train.batch_size` stays. {} if it has none.
    Conditions (`when`) name whole keys in both.
    """
    space = config["algorithm"].pop(SPACE, None) if isinstance(config.get("algorithm"), dict) else None
    if space is None:
        return {}
    if not isinstance(space, dict):
        raise UserError(f"algorithm.{SPACE}: {space!r} is no space; write KEY: interval(low, high), a line each")

    def whole(key: str) -> str:
        group, dot, _ = key.partition(".")
        return key if dot and group in config else f"algorithm.{key}"

    return {whole(str(key)): value for key, value in space.items()}


def compose(
    overrides: list[str], *, config_dir: str | Path | None = None, space: bool = False, name: str = "config"
) -> dict[str, Any]:
    """The config that these overrides give, from Python. space: as `plain` takes it. name: of the primary config."""
    import hydra
    from omegaconf import flag_override

    register()
    if config_dir is not None:
        overrides = [*overrides, f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]
    overrides = prepared(overrides)
    with one_line_errors(), _initialized():
        config = hydra.compose(name, overrides=overrides, return_hydra_config=True)
    _refuse_several(config, config.hydra)
    with flag_override(config, ["read_only", "struct"], False):
        del config["hydra"]
    return plain(config, overrides, space=space)


@contextmanager
def _initialized() -> Iterator[Any]:
    """Gives Hydra, which reads Headway's config; the caller may be a Hydra application itself."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    callers = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module("conf", job_name="composing", version_base="1.3"):
            yield GlobalHydra.instance().hydra
    finally:
        GlobalHydra.instance().hydra = callers


def run_hydra(
    arguments: list[str], config_name: str, task: Callable[[dict[str, Any]], int], *, space: bool = False
) -> int:
    """Runs a verb under Hydra's own command line: overrides, --cfg, --info, -m and the rest. Returns the exit code.

    `task` gets each composed config; with -m the worst of its exit codes is returned. space: as `plain` takes it.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig

    register()
    completes = bool({"-sc", "--shell-completion"} & set(arguments))
    arguments = _completing(arguments) if completes else prepared(flags_first(arguments))
    codes: list[int] = []
    before = os.environ.get(FULL_ERROR)

    def main(config: Any) -> None:
        try:
            with variables({FULL_ERROR: before}):  # what the task starts has it as the user has
                _refuse_several(config, HydraConfig.get())
                codes.append(task(plain(config, _overrides(HydraConfig.instance().cfg), space=space)))
        except Exception as error:  # whatever the verb raises goes past Hydra, which would tell it its own way
            raise _FromTask(error) from error

    arguments_before = sys.argv
    sys.argv = [sys.argv[0], *arguments]
    try:
        # Hydra then raises what it finds, and we say it in one line
        with variables({FULL_ERROR: "1"}), one_line_errors():
            if _is_plain(arguments):
                with _initialized() as app:
                    app.run(config_name, main, arguments)
            else:
                hydra.main(version_base="1.3", config_path=CONFIG_MODULE, config_name=config_name)(main)()
    except _FromTask as escaped:
        raise escaped.error from None
    finally:
        sys.argv = arguments_before
    return max(codes, default=0)


def _overrides(config: Any) -> list[str]:
    """The overrides of a job as they were given: one that refers to something is not to be resolved as one of Hydra's own settings."""
    from omegaconf import OmegaConf

    given = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    return [str(override) for override in cast(list[Any], given)]


def _is_plain(arguments: list[str]) -> bool:
    """Whether a command has neither flags nor settings of Hydra's own. Hydra's command line composes every config twice, to
    learn first whether it sweeps: a tenth of a second."""
    return not any(argument.startswith("-") or argument.lstrip("+~").startswith("hydra") for argument in arguments)


def prepared(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra understands them, where they choose classes of the user's own or what plugins bring.

    Raises UserError.
    """
    from trainer.config.choices import resolved

    plug(SearchPath, "SearchPath")
    overrides = [re.sub(r"^seed=", "job.seed=", override) for override in overrides]  # as they call it elsewhere
    join(overrides)
    for override in overrides:
        _refuse_idle(override)
    for noun, _, name in (override.partition("=") for override in overrides):
        if name in own_choices(noun) and (noun, name) not in _told and (plugin := plugins.named(noun, name)):
            _told.add((noun, name))
            print(f"note: {noun}={name} is Headway's own; that of {plugin.origin} isn't used", file=sys.stderr)
    return resolved(overrides)


_told: set[tuple[str, str]] = set()


def _refuse_idle(override: str) -> None:
    """Raises UserError for a setting that would be taken and do nothing."""
    key, _, value = override.lstrip("+~").partition("=")
    if override.startswith("~"):
        _refuse_taken_away(key)
    if key in FOLDERS:
        raise UserError(f"{key}: Hydra makes no folders here; a job's is job.dir, or job.name below runs/")
    if key == PARAMS or key.startswith(f"{PARAMS}."):
        raise UserError(
            f"{PARAMS} is for config files; on the command line the values stand with their key: -m KEY=A,B"
        )
    if key.partition("@")[0] in SINGLE and value.strip("'\"").startswith("["):
        raise UserError(_of_several(key, value.strip("'\"[] ").split(",")))


def _refuse_several(config: Any, hydra: Any) -> None:
    """Raises UserError where a config file's list of defaults chooses several of a group of which one counts: Hydra then tells
    of no choice."""
    if hydra.job.config_name not in PRIMARY:  # which choose one of each
        return
    for group in SINGLE:
        if group in config and group not in hydra.runtime.choices:
            raise UserError(f"{group}: a config file chooses several, and one counts; write `override /{group}: NAME`")


def _of_several(group: str, several: Sequence[str]) -> str:
    first = several[0].strip() or "NAME"
    return f"{group}=[{','.join(several)}]: one can be chosen, not several; write {group}={first}"


def _refuse_taken_away(key: str) -> None:
    """Raises UserError for what has a default that would stay, or which a job can't be without."""
    group, dot, name = key.partition(".")
    if group not in SINGLE:
        return
    if not dot:
        instead = f"{group}=none" if "none" in choices(group) else f"{group}=NAME for another, or leave it out"
        raise UserError(f"~{key}: a job has one {group} always; write {instead}")
    from trainer.config.conf_files import known_keys

    known = known_keys()
    if below := [one for one in known if one.startswith(f"{key}.")]:
        raise UserError(f"~{key}: the defaults below it would stay; write them one by one, such as {below[0]}=VALUE")
    if "." not in name or key in known:  # deeper are keys of the user's own, of a mapping
        raise UserError(f"~{key}: its default would stay; write {key}=null for none, or leave it out for the default")


def _completing(arguments: list[str]) -> list[str]:
    """What the shell asks about, in Hydra's words; the last word stays as it is being typed."""
    line = os.environ.get("COMP_LINE", "")
    head, space, last = line.rpartition(" ")
    with suppress(UserError):  # the rest is completed all the same
        words = prepared(head.split())
        os.environ["COMP_LINE"] = f"{' '.join(word.removeprefix('++') for word in words)}{space}{last}"
    return arguments


class _FromTask(BaseException):
    """Carries a task's own error past Hydra, which would take it for one of the config."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise for a user's mistake into a UserError of one line."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
        raise UserError(f"{place}: not valid YAML: {error.problem}") from None
    except OverrideParseException as error:
        raise unreadable(str(error.override)) from None
    except MissingConfigException as error:
        raise UserError(_missing_choice(error)) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_describe(error)) from None
    except (RuntimeError, ImportError) as error:
        if match := re.search(r"plugin (?:class : )?'?([\w.]+)", str(error)):
            raise UserError(
                f"hydra: {match[1]} is no launcher or sweeper of Hydra's that is installed; choose one by hydra/launcher=NAME"
            ) from None
        raise


def _missing_choice(error: Any) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, choice = missing.rpartition("/")
    if group and choices(group):
        ending = Path(choice).suffix.removeprefix(".")
        file = f"a file is data={ending} data.train={choice}" if group == "data" and ending in choices(group) else ""
        return f"{group}={choice}: there is no such choice; {file or did_you_mean(choice, choices(group))}"
    match = re.search(r"Could not find '([^']+)'", str(error))
    name = match.group(1) if match else missing or str(error).splitlines()[0]
    group, _, choice = name.rpartition("/")
    return f"{name}: there is no such config; {did_you_mean(choice or name, choices(group) or groups())}"


def _describe(error: Exception) -> str:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    text = "\n".join(str(cause) for cause in causes)
    key = _last(r"full_key: ?(\S+)", text)
    override = _last(r"Could not override '([^']+)'", text)
    if override or "is not in struct" in text or "not in '" in text:
        return _unknown_key(override or key or "", key or "", text)
    if group := _last(r"Could not override '?([\w/]+)'?\. ?No match in the defaults list", text):
        if known := here(group):
            return f"{group}: there is no such config group; here it is {known}"
        return f"{group}: there is no such config group; {did_you_mean(group, groups())}"
    if item := _last(r"An item is already at '([^']+)'", text):
        return f"{item}: this key is there already; write {item}=… without the +"
    if match := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        return f"{key}: {match.group(1)!r} is not {_kind(match.group(2))}"
    if match := re.search(r"Value '(.*)' \(\w+\) is incompatible with type hint '(.*)'", text):
        return f"{key}: {match.group(1)!r} is not a value of type {match.group(2)}"
    if match := re.search(r"Ambiguous value for argument '([^'=]+)=(.*)'", text):
        return (
            f"{match.group(1)}={match.group(2)}: several values; add -m to run a job for each, "
            f"or write {match.group(1)}=[{match.group(2)}] if they are one list"
        )
    if "Missing mandatory value" in text:
        return f"{key or text}: a value is needed; give it as {key}=VALUE"
    if match := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{key}: it refers to {match.group(1)}, and there is no such key; write \\${{{match.group(1)}}} for the text itself"
    if match := re.search(r"Environment variable '([^']+)' not found", text):
        return f"{key}: the environment variable {match.group(1)} is not set; set it, or write ${{oc.env:{match.group(1)},DEFAULT}}"
    if "Recursive interpolation" in text:
        return f"{key}: it refers to itself"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return f"{first} ({key})" if key else first


def _kind(name: str) -> str:
    return {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}.get(name, f"a {name}")


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[-1] if found else None


def _unknown_key(key: str, full: str, text: str) -> str:
    """full: the key that isn't there, which lies below `key` where that is given several."""
    from trainer.config.conf_files import keys as keys_of
    from trainer.config.conf_files import known_keys

    known = known_keys()
    sweeper = SWEEPER if key.startswith(SWEEPER) else ""  # where `headway tune`'s keys lie, if Hydra sweeps
    bare = key.removeprefix(sweeper)
    if bare in known and full == key:
        group, _, own = bare.partition(".")
        having = [choice for choice in choices(group) if any(one.name == own for one in keys_of(group, choice))]
        return f"{key}: what is chosen has no such key; it is one of {group}={', '.join(having)}"
    if bare in known:  # a mapping given keys that it doesn't have
        return f"{key}: it has no such keys; write +{key}=… to add them"
    name = here(key)
    below = [one for one in known if one.endswith(f".{bare}")]
    if name in known and name not in below and below:
        below.insert(0, name)
    if below and not (name and " " in name):
        return f"{key}: there is no such key; did you mean {' or '.join(map(repr, below[:3]))}?"
    if name:
        return f"{key}: there is no such key; here it is {name}"
    top = bare.split(".")[0]
    siblings = [f"{sweeper}{k}" for k in known if k.startswith(f"{top}.")]
    near = did_you_mean(key, siblings) if siblings else did_you_mean(bare, [*groups(), *known], listed=groups())
    add = f"; to add a key of your own write +{key}=…" if top in OPEN else ""
    return f"{key}: there is no such key; {near}{add}"
