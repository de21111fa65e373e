"""python docs/check_links.py SITE [--external]: checks that every link of the built pages has a target.

--external also requests links to other servers. It is a separate check because networks fail.
"""

import argparse
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the anchors that links may name."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.links |= {attributes[name] for name in ("href", "src") if attributes.get(name)}


def internal(root, pages):
    """Returns the number of links within the site, and a line for each one without a target."""
    count, broken = 0, []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or root not in target.parents:
                broken.append(f"{path.relative_to(root)}: {link}: no such file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.relative_to(root)}: {link}: no such anchor")
    return count, broken


def answer(link):
    """Requests a link; returns an empty string, or the error."""
    request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0 (links of a documentation)"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return ""
    except (OSError, ValueError) as error:
        return str(error)


def external(pages):
    links = sorted({link.partition("#")[0] for page in pages.values() for link in page.links if "://" in link})
    with ThreadPoolExecutor(8) as executor:
        answers = dict(zip(links, executor.map(answer, links), strict=True))
    return len(links), [f"{link}: {why}" for link, why in answers.items() if why]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true")
    arguments = parser.parse_args()
    root = arguments.site.resolve()
    found = (path for path in sorted(root.rglob("*.html")) if "_static" not in path.parts)  # skip the theme's templates
    pages = {path: Page(path.read_text()) for path in found}
    if not pages:
        raise SystemExit(f"no pages in {arguments.site}")
    for what, (count, broken) in [
        ("within the site", internal(root, pages)),
        *([("to other servers", external(pages))] if arguments.external else []),
    ]:
        print(f"{len(pages)} pages, {count} links {what}, {len(broken)} of them broken")
        print("".join(f"    {line}\n" for line in broken), end="")
        if broken:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
