"""Write the pictures of docs/gallery.md: draw each from a demo atlas.

    python docs/make_gallery.py demo.atlas [NAME …]

Needs Chromium for the card and the map, which are pages. Studies that a picture needs are run
first, and take minutes. Use a copy of the demo.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["PICTURES"]

FOLDER = Path(__file__).resolve().parent / "gallery"
A, B = "tiny-a-l1-s0", "tiny-a-l1-s1"

#: Width of a stored picture, in pixels, and its pixels for each of CSS.
WIDTH, SCALE = 1300, 2

#: Arguments of ``atlas`` by name of the picture; ``OUT`` is the file to draw.
PICTURES = {
    "card": ["show", f"{A}/79", "--html", "OUT.html"],
    "map": ["feature-map", A, "--out", "OUT.html"],
    "graphs": ["plot", "graphs", A, "--kind", "scatter", "--out", "OUT.png"],
    "communities": ["plot", "communities", A, "--out", "OUT.png"],
    "probes": ["plot", "probes", A, "--run", "document", "--kind", "scatter", "--out", "OUT.png"],
    "compare-graphs": ["compare-graphs", A, B, "--out", "OUT.png"],
    "match-graphs": ["match-graphs", A, B, "--out", "OUT.png"],
    "splitting": ["splitting", A, "tiny-a-l1-wide", "--out", "OUT.png"],
}

#: Studies that a picture needs.
FIRST = {"communities": ["communities", A]}


def run(words, atlas):
    """Run a command of ``atlas``."""
    code = "from atlas.cli.main import main; main()"
    command = [sys.executable, "-c", code, *words, "--atlas", str(atlas), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def draw(name, atlas):
    """Draw one picture."""
    if name in FIRST:
        run(FIRST[name], atlas)
    with tempfile.TemporaryDirectory() as scratch:
        run([a.replace("OUT", str(Path(scratch) / name)) for a in PICTURES[name]], atlas)
        (found,) = [p for p in Path(scratch).iterdir() if p.suffix in (".html", ".png")]
        if found.suffix == ".html":
            found = screenshot(found)
            size = WIDTH
        else:
            size = None
        store(found, FOLDER / f"{name}.png", width=size)


def screenshot(page):
    """Return a picture of the top of a page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is needed to draw a page; install it, or name other pictures.")
    picture = page.with_suffix(".png")
    size = f"--window-size={WIDTH},900"
    run = [
        browser,
        "--headless",
        "--no-sandbox",
        size,
        "--hide-scrollbars",
        "--virtual-time-budget=8000",
    ]
    subprocess.run(
        [*run, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True
    )
    return picture


def store(picture, to, *, width=None):
    """Store a picture without its white margin, with 256 colours.

    A plot is 300 dots per inch. It is stored with ``SCALE`` pixels for each of CSS, so that a small
    plot is not enlarged, and at most as wide as a page.
    """
    from PIL import Image, ImageOps

    with Image.open(picture) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    left, upper, right, lower = ImageOps.invert(flat).getbbox()  # the part that is not white
    flat = flat.crop(
        (
            max(left - 12, 0),
            max(upper - 12, 0),
            min(right + 12, flat.width),
            min(lower + 12, flat.height),
        )
    )
    width = min(width or round(flat.width * SCALE * 96 / 300), WIDTH)
    if flat.width > width:
        flat = flat.resize(
            (width, round(flat.height * width / flat.width)), Image.Resampling.LANCZOS
        )
    to.parent.mkdir(exist_ok=True)
    # The default method drops hues of few pixels.
    flat.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(to, optimize=True)


if __name__ == "__main__":
    for each in sys.argv[2:] or PICTURES:
        draw(each, Path(sys.argv[1]))
