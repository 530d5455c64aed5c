"""Makes the pictures of docs/pages/gallery.md from real runs: `scripts/gallery`.

Those of the terminal are SVG. Those of the reports need a browser (Chromium or Chrome on the path); without one they stay
as they are, and that is said.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).resolve().parent / "pages" / "pictures"
HEADWAY = str(Path(sys.executable).parent / "headway")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH, HEIGHT = 110, 40  # of the terminal, in characters
TRAINING = ("train", "algorithm=linear", "data=digits", "launcher.workers=2", "train.epochs=40", "job.name=digits")
STUDY = (
    "tune",
    "algorithm=linear",
    "data=digits",
    "train.epochs=10",
    "tune.trials=16",
    "scheduler=asha",
    "study.name=lr",
)


class Screen:
    """What a terminal shows: text with its colours, as far as a live bar moves in it."""

    PART = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.row = 0
        self.bar = False

    def feed(self, said: str) -> None:
        for number, letter, back, down, text in self.PART.findall(said):
            if letter == "A":
                self.row = max(0, self.row - int(number or 1))
            elif letter == "K":
                self.lines[self.row] = ""
            elif letter == "m":
                self.lines[self.row] += f"\x1b[{number}m"
            elif down:
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif text and not back:
                self.lines[self.row] += text

    def picture(self, path: Path, title: str, lines: Sequence[str]) -> None:
        """lines: those to show, as they were fed."""
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        for line in lines:
            console.print(Text.from_ansi(line), soft_wrap=True)
        drawn = re.sub(r"@font-face {.*?}\s*", "", console.export_svg(title=title), flags=re.S)  # fetches nothing
        path.write_text(drawn, encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        terminal()
        program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
        if program is None:
            print(
                "report.png and study.png stay as they are: they need a browser, chromium or google-chrome on the path"
            )
            return
        subprocess.run([HEADWAY, "resume", "digits", "train.epochs=60"], check=True)
        subprocess.run([HEADWAY, "report", "digits"], check=True)
        subprocess.run([HEADWAY, *STUDY], check=True)
        screenshot(program, Path("runs/digits/report.html"), PICTURES / "report.png", height=1500)
        screenshot(program, Path("studies/lr/report.html"), PICTURES / "study.png", height=1900)


def terminal() -> None:
    """A training seen in a terminal, in its middle and at its end."""
    run = pexpect.spawn(HEADWAY, list(TRAINING), dimensions=(HEIGHT, WIDTH), encoding="utf-8", timeout=120)
    screen, middle = Screen(), []
    screen.lines[0], screen.row = f"$ headway {' '.join(TRAINING)}", 1
    screen.lines.append("")
    while True:
        try:
            screen.feed(run.read_nonblocking(1 << 16, timeout=120))
        except pexpect.EOF:
            break
        now = Text.from_ansi(screen.lines[screen.row]).plain
        if not middle and (at := re.match(r"step ([\d,]+)/1,800 .*left", now)) and int(at[1].replace(",", "")) > 500:
            middle = list(screen.lines)
    run.close()
    if run.exitstatus or not middle:
        raise SystemExit(f"error: the training ended with {run.exitstatus}, or before its bar was seen; try again")
    screen.picture(PICTURES / "terminal.svg", "headway train", middle)
    end = next(number for number, line in enumerate(screen.lines) if "Completed" in line)
    screen.picture(PICTURES / "ended.svg", "headway train", screen.lines[end:])


def screenshot(program: str, page: Path, picture: Path, *, height: int) -> None:
    """The upper part of a page, as a PNG of few colours."""
    from PIL import Image

    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(program, *flags, f"--user-data-dir={profile}", f"--window-size=1100,{height}"),
                *("--virtual-time-budget=5000", f"--screenshot={picture}", page.absolute().as_uri()),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    main()
