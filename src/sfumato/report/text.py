"""Numbers as text for people, and pictures as data URIs."""

import base64
import io
import math

from PIL import Image

from sfumato import reporting

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_HEAVY = 600_000
_LONG = 6  # digits of a whole number that are still read at a glance


def count(value: int | float) -> str:
    """A whole number with separators: 12,345."""
    return f"{value:,.0f}" if math.isfinite(value) else "not finite"


def figure(value: int | float, digits: int = 3) -> str:
    """A number with this many significant digits, as in print: 0.0312, −5, 1,230, 3.1 × 10⁻⁸."""
    if not math.isfinite(value):
        return "not finite"
    rounded = f"{value:.{digits}g}"
    mantissa, _, exponent = rounded.replace("-", "−").partition("e")
    if not exponent:
        return mantissa
    power = int(exponent.replace("−", "-"))
    if 0 < power < _LONG:
        return f"{float(rounded):,.0f}".replace("-", "−")
    return f"{mantissa} × 10{str(power).translate(_RAISED)}"


def signed(value: int | float) -> str:
    """A number with one decimal and a true minus sign, or infinity as its symbol."""
    shown = f"{value:.1f}" if math.isfinite(value) else str(value).replace("inf", "∞")
    return shown.replace("-", "−")


def by(sizes: str) -> str:
    """A text with sizes such as "8 x 8", with true multiplication signs."""
    return sizes.replace(" x ", " × ")


def duration(seconds: int | float) -> str:
    """A wall-clock time in words: 0.46 s, 48 s, 3 min 20 s, 2 h 5 min."""
    return f"{seconds:.3g} s" if seconds < 59.95 else reporting.duration(seconds)


def image_uri(image: Image.Image, widest: int = 1400, heavy: int = _HEAVY) -> str:
    """The picture as a data URI: PNG, or lossy WebP if a PNG exceeds ``heavy`` bytes; no side above ``widest``."""
    if max(image.size) > widest:
        image = image.copy()
        image.thumbnail((widest, widest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    if file.tell() <= heavy:
        return uri(file.getvalue(), "image/png")
    file = io.BytesIO()
    image.save(file, "WEBP", quality=88, method=4)
    return uri(file.getvalue(), "image/webp")


def uri(content: bytes, kind: str) -> str:
    """``content`` as a data URI with the media type ``kind``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
