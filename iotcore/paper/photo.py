"""Photos from phones: decoded and encoded anew, so that what is kept is a picture and nothing else."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from iotcore.errors import Refused

LARGEST_BYTES = 8 * 1024 * 1024
LARGEST_PIXELS = 50_000_000  # of a phone's largest sensor in everyday use; a bomb of more is not even decoded
LONGEST_SIDE = 1600  # pixels: enough to read a label on
FORMATS = ("JPEG", "PNG")  # nothing else is even tried
QUALITY = 85  # of JPEG


@dataclass(frozen=True, slots=True)
class Photo:
    """A JPEG without metadata: no place, no owner, no thumbnail of what was cut away."""

    content: bytes
    width: int
    height: int


def cleaned(content: bytes, longest: int = LONGEST_SIDE) -> Photo:
    """A photo as it is kept: upright, at most `longest` pixels a side, JPEG.

    Raises:
        Refused: `too_large`, or `no_photo` for what is not a whole JPEG or PNG.
    """
    if len(content) > LARGEST_BYTES:
        raise Refused("too_large", f"{len(content)} bytes of at most {LARGEST_BYTES}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as found:
            if found.width * found.height > LARGEST_PIXELS:
                raise Refused("too_large", f"{found.width} × {found.height} pixels of at most {LARGEST_PIXELS}")
            found.draft("RGB", (longest, longest))  # JPEG: decodes to about that size at once
            upright = ImageOps.exif_transpose(found).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise Refused("no_photo", f"not a whole JPEG or PNG: {error}") from error
    upright.thumbnail((longest, longest))
    bare = Image.new("RGB", upright.size)
    bare.paste(upright)
    told = io.BytesIO()
    bare.save(told, "JPEG", quality=QUALITY, optimize=True)
    return Photo(told.getvalue(), bare.width, bare.height)
