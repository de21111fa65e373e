"""Checks the built site in Chromium: python docs/check_browser.py build/docs [--pictures FOLDER]

It loads all pages in a narrow window, and fails if a page is wider than the window, if an image, a formula or a copy
button is missing, or if a text has little contrast in light or in dark colours. It searches for words that people look
for. It takes screenshots of some pages, light, dark and narrow, and fails if one is blank, cut off or in the wrong
colours. --pictures keeps the screenshots. Without Chromium it says so and does nothing; on a CI server it fails.
"""

import argparse
import functools
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

NARROW, WIDE = 390, 1300  # CSS pixels: a telephone, a laptop
SEARCHES = {"filter": "recipes", "pandas": "recipes", "sparse": "search-how-to", "ids": "recipes"}  # word -> a page
PICTURES = ("index", "recipes", "semantics", "api", "plots", "speed")
LOOKS = {"light": (WIDE, 1), "dark": (WIDE, 0), "narrow": (NARROW, 1)}  # width, scheme
CONTRAST = 4.5  # the least ratio of luminances of text and background: level AA of WCAG 2
# A page that loads all pages of the site in frames and writes a line of JSON about each.
MEASURE = """<!doctype html><pre id="found"></pre><script>
const pages = PAGES, found = document.getElementById("found");
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
function luminance(colour) {
  const [r, g, b] = numbers(colour).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(element) {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if ((numbers(colour)[3] ?? 1) > 0.5) return colour;
  }
  return "rgb(255, 255, 255)";
}
function faintest(inside, theme) {
  inside.documentElement.dataset.theme = theme;
  const walker = inside.createTreeWalker(inside.body, NodeFilter.SHOW_TEXT);
  let least = [99, ""];
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const [low, high] = [getComputedStyle(element).color, background(element)].map(luminance).sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least[0]) least = [ratio, node.data.trim().slice(0, 40)];
  }
  return least;
}
for (const page of pages) {
  const frame = document.createElement("iframe");
  frame.style.width = "WIDTHpx";
  frame.onload = () => {
    const inside = frame.contentDocument, all = (what) => [...inside.querySelectorAll(what)];
    const still = inside.createElement("style");
    still.textContent = "* { transition: none !important }";
    inside.head.append(still);
    found.textContent += JSON.stringify({page, width: inside.documentElement.scrollWidth,
      formulas: all("math").map((part) => part.getBoundingClientRect().height),
      buttons: all("button.copybtn").length, blocks: all("div.highlight").length,
      broken: all("img").filter((image) => !image.naturalWidth).map((image) => image.getAttribute("src")),
      light: faintest(inside, "light"), dark: faintest(inside, "dark")}) + "\\n";
    frame.remove();
  };
  frame.src = page;
  document.body.append(frame);
}
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served(site):
    """Serves the files of a folder, and gives the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def installed():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def chromium(browser, *arguments):
    """Runs a headless browser for one page and returns what it prints."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        command = [browser, *options, "--virtual-time-budget=30000", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=170, check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    browser = installed()
    if browser is None:
        print("no Chromium here, so the site was not checked; on Debian: apt-get install chromium")
        return int("CI" in os.environ)
    pages = sorted(path.name for path in arguments.site.glob("*.html") if path.stem not in ("genindex", "py-modindex"))
    with served(arguments.site) as address, tempfile.TemporaryDirectory() as folder:
        wrong = measured(browser, address, arguments.site, pages) + searches(browser, address)
        wrong += pictures(browser, address, arguments.pictures or Path(folder))
    print(*(f"    {line}" for line in wrong), sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


def measured(browser, address, site, pages):
    measure = site / "measure.html"
    measure.write_text(MEASURE.replace("PAGES", repr(pages)).replace("WIDTH", str(NARROW)))
    try:
        text = html.unescape(chromium(browser, "--dump-dom", f"{address}/measure.html"))
    finally:
        measure.unlink()
    found = {page["page"]: page for page in map(json.loads, re.findall(r'\{"page".*\}', text))}
    least = min((page[theme][0] for page in found.values() for theme in ("light", "dark")), default=0)
    print(f"{len(found)} of {len(pages)} pages measured in a window of {NARROW} pixels; least contrast {least:.1f}")
    wrong = [f"{page}: not measured" for page in pages if page not in found]
    for name, page in found.items():
        wrong += [f"{name}: {page['width']} pixels wide"] if page["width"] > NARROW else []
        wrong += [f"{name}: no image {source}" for source in page["broken"]]
        if page["buttons"] < page["blocks"]:
            wrong.append(f"{name}: {page['blocks']} blocks have {page['buttons']} copy buttons")
        if not all(page["formulas"]) or name in ("semantics.html", "bounds.html") and not page["formulas"]:
            wrong.append(f"{name}: a formula is not shown")
        for theme in ("light", "dark"):
            ratio, words = page[theme]
            wrong += [f"{name}: contrast {ratio:.1f} in {theme} colours: {words!r}"] if ratio < CONTRAST else []
    return wrong


def searches(browser, address):
    wrong = []
    for word, page in SEARCHES.items():
        text = chromium(browser, "--dump-dom", f"{address}/search.html?q={word}")
        results = re.findall(r'<li class="[^"]*"><a href="([\w-]+)\.html', text)
        print(f"search for {word}: {', '.join(dict.fromkeys(results)) or 'nothing'}")
        wrong += [] if page in results else [f"search for {word}: no link to {page}"]
    return wrong


def pictures(browser, address, folder):
    """Takes screenshots of some pages in each of LOOKS, and returns what is wrong with them."""
    folder.mkdir(parents=True, exist_ok=True)

    def take(page, look):
        width, scheme = LOOKS[look]
        size, colours = f"--window-size={width},1000", f"--blink-settings=preferredColorScheme={scheme}"
        path = folder / f"{page}-{look}.png"
        chromium(browser, size, colours, f"--screenshot={path}", f"{address}/{page}.html")
        return [f"{path.name}: {fault}" for fault in faults(grey(path), width, bool(scheme))]

    shots = [(page, look) for page in PICTURES for look in LOOKS]
    with ThreadPoolExecutor(2) as executor:
        wrong = [fault for found in executor.map(lambda shot: take(*shot), shots) for fault in found]
    print(f"{len(shots)} screenshots looked at: {', '.join(PICTURES)}, each {', '.join(LOOKS)}")
    return wrong


def grey(path):
    from PIL import Image  # matplotlib needs it too

    return np.asarray(Image.open(path).convert("L"), np.int16)


def faults(picture, width, light):
    """Returns what is wrong with a picture of the top of a page, an array of grey values from 0 to 255."""
    if picture.shape[1] != width:
        return [f"{picture.shape[1]} pixels wide, not {width}"]
    background = np.bincount(picture.ravel()).argmax()
    wrong = [] if (background > 200 if light else background < 60) else [f"the background has the grey {background}"]
    ink = np.abs(picture - background) > 90
    bands = np.array_split(ink[100:], 4)  # below the bar at the top
    wrong += [f"part {number} of 4 is blank" for number, band in enumerate(bands, 1) if band.mean() < 0.003]
    return wrong + (["text at the right edge is cut off"] if ink[100:, -4:].any() else [])


if __name__ == "__main__":
    sys.exit(main())
