"""Which of SageMaker's ways to start a script it was written for. They differ in how hyperparameters reach it, and where it lies.

framework   PyTorch(…), SKLearn(…), … of the SDK's second version: the training toolkit starts it
plain       Estimator(image_uri=…): an image's own program, which reads hyperparameters.json, where each value is its text
sdk3        ModelTrainer(…) of the third version: its drivers start it, in the channel `code`
"""

from __future__ import annotations

import re
from pathlib import Path

from trainer.errors import UserError, did_you_mean

AUTO, FRAMEWORK, PLAIN, SDK3 = "auto", "framework", "plain", "sdk3"
DIALECTS = (AUTO, FRAMEWORK, PLAIN, SDK3)
# variables that one of them alone sets: a script that reads these was written for it
OF_SDK3 = re.compile(
    r"\bSM_(?:SOURCE_DIR|ENTRY_SCRIPT|DISTRIBUTED_CONFIG|DISTRIBUTED_DRIVER_DIR|HOST_COUNT|CURRENT_HOST_RANK"
    r"|INPUT_DATA_DIR|OUTPUT_FAILURE|MASTER_ADDR|MASTER_PORT)\b"
)
OF_TOOLKIT = re.compile(
    r"\bSM_(?:USER_ARGS|USER_ENTRY_POINT|FRAMEWORK_PARAMS|FRAMEWORK_MODULE|MODULE_DIR|MODULE_NAME|OUTPUT_INTERMEDIATE_DIR"
    r"|CURRENT_INSTANCE_GROUP|INSTANCE_GROUPS|IS_HETERO)\b"
)
SOURCES = (".py", ".sh")


def choose(given: str, entry: str, code: Path) -> tuple[str, str]:
    """The dialect of a script, and why where nobody has said it and it isn't the usual. Raises UserError for an unknown one."""
    if given not in DIALECTS:
        raise UserError(f"algorithm.dialect: there is no {given!r}; {did_you_mean(given, DIALECTS)}")
    if given != AUTO:
        return given, ""
    if entry.endswith(SOURCES):
        beside = sorted((code / entry).parent.glob("*"))
        paths = [path for path in beside if path.suffix in SOURCES and path.is_file()]
        texts = {path: path.read_text("utf-8", "replace") for path in paths}
        told = {path: found[0] for path, text in texts.items() if (found := OF_SDK3.search(text))}
        if told and not any(OF_TOOLKIT.search(text) for text in texts.values()):
            path, name = next(iter(told.items()))
            return SDK3, f"{path.relative_to(code)} reads {name}, which only ModelTrainer's drivers set"
    if is_command(entry, code, FRAMEWORK):
        return PLAIN, ""
    return FRAMEWORK, ""


def is_package(entry: str, code: Path, dialect: str) -> bool:
    return dialect != SDK3 and not entry.endswith(".sh") and (code / "setup.py").is_file()


def is_command(entry: str, code: Path, dialect: str) -> bool:
    """Whether it is run as it is: a shell script, or a program of whatever kind."""
    return not (entry.endswith(".py") or is_package(entry, code, dialect))
