"""Events by the thousand, out of a seed, in which everything that is private carries a mark.

Every value of an event that is not public is a canary: a text or a number of its own, which `traces` finds again
however it was escaped. Speed is why none of this is hypothesis: 20,000 are made in seconds.
"""

import json
import random
import re
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

# docs/protocol.md section 5.
PRIVATE = (
    "macdV",
    "fastEMA",
    "slowEMA",
    "atr",
    "informativeATR",
    "isSynthetic",
    "sequenceNum",
    "alertType",
    "triggerValue",
    "signalDelta",
    "triggerLabel",
    "sourceExchangeId",
    "sourceExchangeName",
    "id",
)
PRICES = ("open", "high", "low", "close", "volume")
CANDLE = ("timestamp", *PRICES)
ALERT = ("symbol", "timeframe", "price", "triggeredAt")
ENVELOPE = ("type", "channel", "data", "exchange", "direction", "strength", "signal_type")
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
ALERT_SOURCE = "channel:alerts:exchange:1"
CANDLE_SOURCE = "channel:exchange:1:candle:close:"

TOO_DEEP = 100_000
TOO_BIG = 10_000_000

# A channel part has no underscore, so this is never a valid symbol; no public number of a run is this long.
TEXT_MARK = "canary_"
NUMBER_MARK = "7700770077"
# None of these letters spells a private name.
SYMBOL_LETTERS = "BCEHSUX0123456789"

_CANARY = re.compile(rf"{TEXT_MARK}\w*|7[.]?{NUMBER_MARK[1:]}[0-9.eE+-]*", re.IGNORECASE)
_PRIVATE = re.compile(rf"\b(?:{'|'.join(PRIVATE)})\b", re.IGNORECASE)
_ESCAPE = re.compile(r"\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2}))", re.IGNORECASE)

# What is no JSON value, though parts of it are read by one reader or another.
_NO_VALUES = (
    *("NaN", "-Infinity", "Infinity", "+1", "01", "1.", ".5", "1e", "--1", "0x10", "1_0", "True", "None", "undefined"),
    *("'@'", '"@', '@"', '"@\t"', '"@\0"', '"@\\ud800"', '"\\udc00\\ud800@"', '"\\u12g4@"', '"\\x31@"', '{"@"}'),
    *("[1,]", "[,1]", '{"a":1,}', "{@:1}", '["@"', '{"@":', "]", "1/*@*/", "\ufeff1", "\u00a01", '{"\\udfff@":1}'),
)
_NOT_UTF8 = (b"\xff", b"\xc3", b"\x80", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80")
_LABELS = ("reversal_oversold", "reversal_overbought", "level_-", "level_", "Level_-3", "")


class Event(NamedTuple):
    """A source channel and a payload."""

    source: str
    payload: bytes


def traces(text: str) -> list[str]:
    """Return the canaries and the private names in a text, also where it has them escaped."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), text)
    return [found[0] for pattern in (_CANARY, _PRIVATE) for found in pattern.finditer(f"{text}\n{plain}")]


class Events:
    """Makes events; about half of them are valid, all of them hold what is private."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._canaries = 0
        self._kinds: dict[Callable[[], Event], int] = {
            self._sound: 100,
            self._with_a_wrong_member: 30,
            self._with_a_member_missing: 16,
            self._with_a_repeated_member: 12,
            self._with_no_json_inside: 16,
            self._damaged: 24,
            self._without_a_channel: 8,
            self._nested_too_deep: 1,
        }

    def take(self, count: int) -> list[Event]:
        kinds = self._random.choices(list(self._kinds), list(self._kinds.values()), k=count)
        return [kind() for kind in kinds]

    def huge(self) -> list[Event]:
        """Return events of 10 MB: two valid ones, and three that are not."""
        (candle, members), (alert, needed) = self._candle(), self._alert()
        filling = f'"{"z" * TOO_BIG}{self._text()}"'
        many = "[" + ",".join(f'"{self._text()}"' for _ in range(TOO_BIG // 20)) + "]"
        return [
            Event(candle, _object([("macdV", filling), *members.items()])),
            Event(alert, _object([*needed.items(), ("alertType", many)])),
            Event(candle, _object([*(members | {"open": filling}).items()])),
            Event(alert, _object([*needed.items(), ("id", many)])[:-2]),
            Event(alert, b"\xff".join((_object([("id", filling)])[:-1], _object([*needed.items()])[1:]))),
        ]

    def _sound(self) -> Event:
        source, members = self._either()
        return Event(source, self._payload(members))

    def _with_a_wrong_member(self) -> Event:
        source, members = self._either()
        name = self._random.choice([name for name in members if name not in PRIVATE])
        return Event(source, self._payload(members | {name: self._wrong()}))

    def _with_a_member_missing(self) -> Event:
        """Leave out a needed member, or mis-case its name."""
        source, members = self._either()
        name = self._random.choice([name for name in members if name not in PRIVATE])
        value = members.pop(name)
        if self._random.random() < 0.7:
            members[self._random.choice((name.upper(), name.title(), f" {name}", f"{name}\0", f"_{name}"))] = value
        return Event(source, self._payload(members))

    def _with_a_repeated_member(self) -> Event:
        """Repeat a needed member: the last one counts."""
        source, members = self._either()
        name = self._random.choice([name for name in members if name not in PRIVATE])
        once, whole = [(name, self._spelled(self._text()))], list(members.items())
        first, last = (whole, once) if self._random.random() < 0.5 else ([(name, self._value(1))], whole)
        return Event(source, _object([*first, *self._extras(), *last]))

    def _with_no_json_inside(self) -> Event:
        source, members = self._either()
        value = self._random.choice(_NO_VALUES).replace("@", self._text())
        return Event(source, self._payload({**members, self._random.choice((*PRIVATE, *members)): value}))

    def _damaged(self) -> Event:
        """Cut a payload short, or break its bytes somewhere; a few stay what they were."""
        source, payload = self._sound()
        at = self._random.randrange(len(payload))
        head, tail = payload[:at], payload[at:]
        piece = self._random.choice(string.printable).encode()
        choices = (
            head,
            head + self._random.choice(_NOT_UTF8) + tail,
            head + piece + tail,
            head + piece + tail[1:],
            head + tail[1:],
            payload + self._random.choice((b"x", b"\0", b",", b"{}", b"\x0c", payload)),
            self._random.choice((b"[%b]", b"'%b'", b'{"data":%b}', b"\0%b", b"\xef\xbb\xbf%b", b'"%b"')) % payload,
            payload.decode().encode(self._random.choice(("utf-16", "utf-16-le", "utf-32"))),
        )
        return Event(source, self._random.choice(choices))

    def _without_a_channel(self) -> Event:
        _, members = self._candle()
        symbol = self._random.choice((self._text(), f"{self._text()}-USD", f"BTC-USD:{self._text()}", "BTC USD", "*"))
        timeframe = self._random.choice(("1h", "2h", self._text()))
        return Event(f"{CANDLE_SOURCE}{symbol}:{timeframe}", self._payload(members))

    def _nested_too_deep(self) -> Event:
        source, members = self._either()
        start, end = self._random.choice((("[", "]"), ('{"id":', "}"), (f'[{{"{self._text()}":', "}]")))
        inner = self._random.choice((f'"{self._text()}"', self._number(), ""))
        value = start * TOO_DEEP + inner + end * self._random.choice((TOO_DEEP, 0))
        return Event(source, self._payload({**members, self._random.choice((*PRIVATE, *members)): value}))

    # The parts

    def _either(self) -> tuple[str, dict[str, str]]:
        return self._candle() if self._random.random() < 0.5 else self._alert()

    def _candle(self) -> tuple[str, dict[str, str]]:
        """Return the source channel of a candle, and its needed members."""
        members = {"timestamp": str(self._random.randrange(253_402_300_799_999))}
        members |= {name: self._decimal() for name in PRICES}
        return f"{CANDLE_SOURCE}{self._symbol()}:{self._random.choice(TIMEFRAMES)}", members

    def _alert(self) -> tuple[str, dict[str, str]]:
        """Return the source channel of an alert, its needed members, and often the private ones that are read."""
        members = {
            "symbol": self._spelled(self._symbol()),
            "timeframe": self._spelled(self._random.choice(TIMEFRAMES)),
            "price": self._decimal(),
            "triggeredAt": self._moment(),
        }
        if self._random.random() < 0.8:
            small = f"{self._random.choice(('', '-'))}{self._random.randrange(200)}.{NUMBER_MARK}{self._next()}"
            members["triggerValue"] = self._random.choice((small, f'"{small}"', self._value(1)))
        if self._random.random() < 0.8:
            label = self._random.choice(_LABELS) + self._random.choice((self._text(), self._number()))
            members["triggerLabel"] = self._random.choice((self._spelled(label), self._value(1)))
        return ALERT_SOURCE, members

    def _payload(self, members_read: dict[str, str]) -> bytes:
        members = [*members_read.items(), *self._extras()]
        self._random.shuffle(members)
        gap = self._random.choice(("", "", "", " ", "\n\t"))
        return _object(members, self._spelled, gap)

    def _extras(self) -> list[tuple[str, str]]:
        """Return members that are not read: a canary under the name of a public member would be public."""
        names = [self._name() for _ in range(self._random.randrange(1, 7))]
        return [(name, self._value(4)) for name in names if name not in CANDLE + ALERT]

    def _name(self) -> str:
        name = self._random.choice((*PRIVATE, *PRIVATE, *CANDLE, *ALERT, *ENVELOPE))
        renamed = self._random.choice((f"{name}_{self._text()}", f"{self._text()}.{name}", self._text()))
        return self._random.choice((name, name, name.upper(), name.swapcase(), name.lower(), renamed, renamed))

    def _value(self, depth: int) -> str:
        """Return a JSON value whose every leaf is a canary."""
        kind = self._random.randrange(8) if depth else 0
        if kind < 5:
            return self._random.choice((self._spelled(self._text()), self._number()))
        if kind == 5:
            return f"[{','.join(self._value(depth - 1) for _ in range(self._random.randrange(1, 4)))}]"
        if kind == 6:
            levels = self._random.randrange(2, 60)
            return "[" * levels + self._value(0) + "]" * levels
        names = (*PRIVATE, *CANDLE, *ALERT, *ENVELOPE, self._text())
        members = [(self._random.choice(names), self._value(depth - 1)) for _ in range(self._random.randrange(1, 4))]
        return _object(members, self._spelled).decode()

    def _wrong(self) -> str:
        """Return a value that no needed member may have."""
        text, number = self._text(), self._number()
        return self._random.choice(
            (
                self._spelled(text),
                f'"{number} "',
                f'"{number}{text}"',
                f'"2026-02-19T12:00:00{text}Z"',
                f"[{number}]",
                f'{{"value":{number}}}',
                f"{NUMBER_MARK * 7}{self._next()}",
                f"{number}e999999999",
                "null",
                "true",
            )
        )

    def _next(self) -> str:
        self._canaries += 1
        return f"{self._canaries:08}"

    def _text(self) -> str:
        return f"{TEXT_MARK}{self._next()}_"

    def _number(self) -> str:
        return (
            f"{self._random.choice(('', '-'))}{NUMBER_MARK}{self._next()}{self._random.choice(('', '.5', 'e-9', 'E3'))}"
        )

    def _symbol(self) -> str:
        return "-".join(
            "".join(self._random.choices(SYMBOL_LETTERS, k=self._random.choice((1, 3, 3, 4, 20)))) for _ in range(2)
        )

    def _decimal(self) -> str:
        whole = self._random.randrange(10 ** self._random.randrange(1, 9))
        fraction = self._random.choice(("", ".0", ".50", f".{self._random.randrange(10**12):012}"))
        number = f"{self._random.choice(('', '', '-'))}{whole}{fraction}{self._random.choice(('', '', 'e-7', 'E2'))}"
        return self._random.choice((number, number, f'"{number}"'))

    def _moment(self) -> str:
        if self._random.random() < 0.2:
            return str(self._random.randrange(253_402_300_799_999))
        pick = self._random.randrange
        fraction = self._random.choice(("", ".5", f".{pick(10**9):09}"))
        zone = self._random.choice(("Z", "z", "+05:30", "-11:00"))
        date, time = f"20{pick(100):02}-{pick(1, 13):02}-{pick(1, 29):02}", f"{pick(24):02}:{pick(60):02}:{pick(60):02}"
        return self._spelled(f"{date}T{time}{fraction}{zone}")

    def _spelled(self, text: str) -> str:
        """Return a JSON string: mostly plain, else with one character, or all of them, as an escape."""
        escaped: Sequence[int] = ()
        spelling = self._random.randrange(8)
        if spelling == 0:
            escaped = range(len(text))
        elif spelling < 3 and text:
            escaped = (self._random.randrange(len(text)),)
        form = self._random.choice(("\\u{:04x}", "\\u{:04X}"))
        return '"' + "".join(form.format(ord(c)) if i in escaped or c < " " else c for i, c in enumerate(text)) + '"'


def _object(members: Sequence[tuple[str, str]], spelled: Callable[[str], str] = json.dumps, gap: str = "") -> bytes:
    return f"{gap}{{{','.join(f'{gap}{spelled(name)}{gap}:{value}' for name, value in members)}{gap}}}".encode()
