"""Checks the built site in Chromium: python docs/check_browser.py build/docs [--pictures FOLDER]

It fails if a page is wider than a narrow screen, if a formula or a copy button is missing, or if the search does not
find the words that people look for. With --pictures it saves screenshots: light, dark and narrow. Without Chromium it
says so and does nothing.
"""

import argparse
import functools
import html
import http.server
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

NARROW, WIDE = 390, 1300  # CSS pixels: a telephone, a laptop
SEARCHES = {"filter": "recipes", "pandas": "recipes", "sparse": "search-how-to", "ids": "recipes"}  # word -> a page
PICTURES = ("index", "recipes", "semantics", "from-torch", "api", "plots", "speed")
# A page that loads all pages of the site in frames and writes the width of each.
MEASURE = """<!doctype html><pre id="found"></pre><script>
const pages = PAGES, found = document.getElementById("found");
for (const page of pages) {
  const frame = document.createElement("iframe");
  frame.style.width = "WIDTHpx";
  frame.onload = () => {
    const inside = frame.contentDocument, count = (what) => inside.querySelectorAll(what).length;
    found.textContent += [page, inside.documentElement.scrollWidth, count("math"), count("button.copybtn"),
      count("div.highlight")].join(" ") + "\\n";
    frame.remove();
  };
  frame.src = page;
  document.body.append(frame);
}
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


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
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here, so the site was not checked; on Debian: apt-get install chromium")
        return 0
    handler = functools.partial(Quiet, directory=arguments.site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    wrong = widths_and_buttons(browser, address, arguments.site) + searches(browser, address)
    if arguments.pictures:
        pictures(browser, address, arguments.pictures)
    server.shutdown()
    print(*(f"    {line}" for line in wrong), sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


def widths_and_buttons(browser, address, site):
    pages = sorted(path.name for path in site.glob("*.html") if path.stem not in ("genindex", "py-modindex"))
    measure = site / "measure.html"
    measure.write_text(MEASURE.replace("PAGES", repr(pages)).replace("WIDTH", str(NARROW)))
    try:
        text = html.unescape(chromium(browser, "--dump-dom", f"{address}/measure.html"))
    finally:
        measure.unlink()
    found = {line[0]: [int(n) for n in line[1:]] for line in map(str.split, re.findall(r"^\S+\.html .*", text, re.M))}
    found |= {line[0]: [int(n) for n in line[1:]] for line in map(str.split, re.findall(r'found">(.*)', text))}
    print(f"{len(found)} of {len(pages)} pages measured in a window of {NARROW} pixels")
    wrong = [f"{page}: not measured" for page in pages if page not in found]
    wrong += [f"{page}: {width} pixels wide" for page, (width, *_) in found.items() if width > NARROW]
    wrong += [
        f"{page}: {blocks} blocks have {buttons} copy buttons"
        for page, (_, _, buttons, blocks) in found.items()
        if buttons < blocks
    ]
    return wrong + [f"{page}: no formula" for page in ("semantics.html", "bounds.html") if not found[page][1]]


def searches(browser, address):
    wrong = []
    for word, page in SEARCHES.items():
        text = chromium(browser, "--dump-dom", f"{address}/search.html?q={word}")
        results = re.findall(r'<li class="[^"]*"><a href="([\w-]+)\.html', text)
        print(f"search for {word}: {', '.join(dict.fromkeys(results)) or 'nothing'}")
        wrong += [] if page in results else [f"search for {word}: no link to {page}"]
    return wrong


def pictures(browser, address, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for page in PICTURES:
        for name, width, scheme in (("light", WIDE, 1), ("dark", WIDE, 0), ("narrow", NARROW, 1)):
            size, colours = f"--window-size={width},1000", f"--blink-settings=preferredColorScheme={scheme}"
            chromium(browser, size, colours, f"--screenshot={folder / f'{page}-{name}.png'}", f"{address}/{page}.html")


if __name__ == "__main__":
    sys.exit(main())
