"""Reads decisions from bytes, so that mutated bytes give other decisions. Also mutates seeds, without a fuzzer."""

import random


class Source:
    """Reads bytes one after another, and zeros after the last one."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, n):
        return self.byte() % n

    def one_in(self, n):
        """True for one in n values of the next byte. After the last byte it is false."""
        return self.byte() % n == n - 1

    def pick(self, options):
        return options[self.byte() % len(options)]

    def long(self):
        return int.from_bytes(bytes(self.byte() for _ in range(8)), "little", signed=True)

    def rest(self):
        rest = self.data[self.at :]
        self.at = len(self.data)
        return rest


def _mutated(data, others, draw):
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        at = draw.randint(0, len(data))
        kind = draw.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        elif kind == 2:
            del data[at : at + draw.randint(1, 8)]
        elif kind == 3:
            data[at:at] = draw.randbytes(draw.randint(1, 8))
        elif kind == 4:
            data[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0\0\0\0"))
        elif kind == 5:
            other = draw.choice(others)
            start = draw.randint(0, len(other))
            data[at : at + draw.randint(0, 64)] = other[start : start + draw.randint(0, 64)]
        else:
            del data[at:]
            data += draw.randbytes(draw.randint(0, 64))
    return bytes(data)


def mutations(seeds, count, seed=0):
    """Yields the seeds, then `count` mutations of them; equal arguments give equal mutations."""
    draw = random.Random(seed)
    yield from seeds
    for _ in range(count):
        yield _mutated(draw.choice(seeds), seeds, draw)
