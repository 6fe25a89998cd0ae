"""Thousands of client messages from a seed: valid, nearly valid and hostile."""

import json
import random
import string
from collections.abc import Callable

from tests.support.payloads import TEXT_MARK, TIMEFRAMES

# A message is a text, bytes for a binary frame, or pieces for fragments.
Message = str | bytes | list[str]

MAX_MESSAGE = 65_536

_ODD_NUMBERS = (
    *("0", "-0", "-0.0", "1", "1.5", "1e5", "1E+5", "1e308", "2e308", "1e400", "-1e400", "1e-400", "NaN", "-NaN"),
    *("Infinity", "-Infinity", "01", "+1", "1.", ".5", "-", "1e", "0x10", "1_0", "\u0661", "\uff11"),
    *("9007199254740993", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1" * 400),
    *("1" * 400 + ".0", "1" * 4300, "-" + "1" * 4299, "1" * 4301, "0." + "1" * 5000),
    *("1e" + "9" * 400, "1e-" + "9" * 400),
)
_ODD_STRINGS = (
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\uD83D\\u0041"', '"\\u0000"', '"\\u001b[2J"', '"\x7f"'),
    *('"\x00"', '"\x1b[2J"', '"\t"', '"\u202e"', '"\x9b31m"', '"\u2028"', '"\U0001f600"', '"\\x41"', '"\\u12"', '"\\"'),
    *('"\\udfff\\udfff"', '"\ufeff"', '"\ufffe"'),
)
_ODD_CHANNELS = (
    *('""', '"*"', '"candles"', '"candles:"', '"candles:*:*:*"', '"candles:BTC-USD:2h"', '"Candles:BTC-USD:1h"'),
    *('"candles:BTC-USD:1h\\n"', '" signals:*:*"', '"signals:BTC-\\u00dcSD:1h"', '"\ufeffcandles:*:*"', '"a:\\u0000"'),
)
_OTHERS = ("null", "true", "false", "[]", "{}", "[[]]", '["a"]', '{"a":1}', '[{"action":"subscribe"}]')
_CONTROLS = "".join(map(chr, range(32))) + "\x7f\x80\x85\x9b\u200b\u202e\u2028\ufeff\ufffe"
_SYNTAX = '{}[]",:\\u0d89e+-.'
_LETTERS = "".join(map(chr, range(1, 0x300)))


class Messages:
    """Generates messages. Some repeat the client's own key, `secret`, and many contain a canary of payloads.py."""

    def __init__(self, seed: int, *, secret: str) -> None:
        self._random = random.Random(seed)
        self._secret = secret
        self._canaries = 0
        self._kinds: dict[Callable[[], str], int] = {
            self._request: 60,
            self._schema_breaker: 50,
            self._mutated: 60,
            self._garbage: 30,
            self._huge: 4,
            self._deep: 16,
            self._repeated: 12,
            self._with_the_secret: 4,
        }

    def take(self, count: int) -> list[Message]:
        kinds = self._random.choices(list(self._kinds), list(self._kinds.values()), k=count)
        return [self._framed(kind()) for kind in kinds]

    def _framed(self, text: str) -> Message:
        way = self._random.randrange(20)
        if way == 0:
            at = self._random.randrange(len(text) + 1)
            return [text[:at], "", text[at:]]
        if way < 4:
            data = text.encode()
            return data[:-1] + b"\xff" if self._random.random() < 0.02 else data
        return text

    def _request(self) -> str:
        members = {"action": self._random.choice(('"subscribe"', '"unsubscribe"')), "channels": self._channels()}
        if self._random.random() < 0.3:
            members[self._mark()] = self._anything()
        items = list(members.items())
        self._random.shuffle(items)
        gap = self._random.choice(("", "", " ", "\r\n\t "))
        return gap + "{" + ",".join(f"{gap}{json.dumps(k)}{gap}:{gap}{v}{gap}" for k, v in items) + "}" + gap

    def _channels(self) -> str:
        channels = [self._channel() for _ in range(self._random.choice((1, 1, 2, 3, 8, 20)))]
        return f"[{','.join(channels)}]"

    def _channel(self) -> str:
        kind = self._random.randrange(12)
        if kind == 0:
            return f'"{self._mark()}"'
        if kind == 1:
            return json.dumps(self._mark() + "".join(self._random.choices(_CONTROLS, k=3)), ensure_ascii=False)
        if kind == 2:
            return self._random.choice(_ODD_CHANNELS)
        symbol = self._random.choice(("*", "BTC-USD", f"BTC-{self._random.randrange(500)}", "a-b"))
        timeframe = self._random.choice(("*", *TIMEFRAMES))
        text = f"{self._random.choice(('candles', 'signals'))}:{symbol}:{timeframe}"
        return f'"{text}"' if self._random.random() < 0.8 else '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"'

    def _anything(self) -> str:
        text = "".join(self._random.choices(string.printable + _CONTROLS, k=self._random.randrange(100)))
        own = json.dumps(self._mark() + text, ensure_ascii=self._random.random() < 0.5)
        return self._random.choice((*_ODD_NUMBERS, *_ODD_STRINGS, *_OTHERS, own, own, own, own, own, own, own, own))

    def _schema_breaker(self) -> str:
        action, channels = '"subscribe"', self._channels()
        mark = f'"{self._mark()}"'
        choices = (
            self._anything(),
            f'{{"action":{self._anything()},"channels":{channels}}}',
            f'{{"action":{action},"channels":{self._anything()}}}',
            f'{{"action":{action},"channels":[{mark},{self._anything()}]}}',
            f'{{"action":{action}}}',
            f'{{"channels":{channels}}}',
            f'{{"Action":{action},"channels":{channels}}}',
            f'{{"action":{action},"channels":[]}}',
            f'{{"action":{action},"channels":[{",".join([mark] * self._random.randrange(20, 23))}]}}',
            f'{{"action":{action},"channels":["{"x" * self._random.randrange(127, 131)}"]}}',
            f'{{"action":{mark},"channels":{channels}}}',
            f"[{action},{channels}]",
        )
        return self._random.choice(choices)

    def _mutated(self) -> str:
        text = self._random.choice((self._request, self._schema_breaker))()
        for _ in range(self._random.randrange(1, 5)):
            at, end = sorted(self._random.randrange(len(text) + 1) for _ in range(2))
            end = min(end, at + 8)
            new = "".join(self._random.choices(string.printable + _CONTROLS, k=self._random.randrange(3)))
            text = self._random.choice(
                (text[:at], text[:at] + text[end:], text[:at] + new + text[at:], text[:end] + text[at:])
            )
        return text

    def _garbage(self) -> str:
        letters = self._random.choice((string.printable, _CONTROLS, _SYNTAX, _LETTERS))
        start = self._random.choice(("", self._mark()))
        return start + "".join(self._random.choices(letters, k=self._random.randrange(200)))

    def _huge(self) -> str:
        """Return a message of up to 64 KiB, or one byte more."""
        size = self._random.choice((MAX_MESSAGE, MAX_MESSAGE, MAX_MESSAGE, 40_000, MAX_MESSAGE + 1))
        start, filling, end = self._random.choice(
            (
                (f'"{self._mark()}', "z", '"'),
                ('{"action":"subscribe","channels":["candles:*:*"]}', " ", ""),
                ('{"action":"', "\u00e9", '","channels":["a"]}'),
                ('{"action":"subscribe","channels":["', "\x7f", '"]}'),
                ('{"action":"subscribe","channels":[', "1,", "1]}"),
                ("", "9", ""),
                ("", '{"a":', ""),
                ("", '\\"', ""),
                ('{"x":"', "\\ud800", '"}'),
            )
        )
        text = start + filling * ((size - len(start) - len(end)) // len(filling.encode())) + end
        return text + " " * (size - len(text.encode()))

    def _deep(self) -> str:
        levels = self._random.choice((30, 31, 32, 33, 34, 1000, 20_000))
        start, end = self._random.choice((("[", "]"), ('{"a":', "}")))
        levels = min(levels, MAX_MESSAGE // 8)
        nested = start * levels + f'"{self._mark()}"' + end * self._random.choice((levels, levels, 0))
        return self._random.choice((nested, f'{{"action":"subscribe","channels":["candles:*:*"],"x":{nested}}}'))

    def _repeated(self) -> str:
        first, last = (self._random.choice((self._anything(), '"subscribe"', '"unsubscribe"')) for _ in range(2))
        return f'{{"action":{first},"channels":{self._anything()},"action":{last},"channels":{self._channels()}}}'

    def _with_the_secret(self) -> str:
        """Return a message with the client's own key in a place where a client may put it by mistake."""
        place = self._random.choice(('"channels":["{}"],"action":"subscribe"', '"action":"{}"', '"key":"{}"', '"{}"'))
        return "{" + place.format(self._secret) + "}"

    def _mark(self) -> str:
        self._canaries += 1
        return f"{TEXT_MARK}{self._canaries}_"
