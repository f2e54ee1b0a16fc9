"""A picture means the same for training and for a first frame, and none stops or fills the process."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cc2env.pictures import load_picture
from model.picture_file import read_picture

SIZE = (12, 8)  # width, height


def quarters() -> Image.Image:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:4, :6], pixels[4:, 6:] = (255, 0, 0), (0, 0, 255)
    return Image.fromarray(pixels)


def half_clear(mode: str) -> Image.Image:
    picture = quarters().convert("RGBA")
    alpha = np.full((8, 12), 255, np.uint8)
    alpha[:4] = 0
    picture.putalpha(Image.fromarray(alpha))
    return picture.convert(mode)


def deep() -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16))


def tiff(*entries: tuple[int, int, int, bytes], extra: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0) + extra


def with_exif(path: Path, exif: bytes) -> Path:
    """A JPEG whose EXIF segment holds these bytes."""
    buffer = io.BytesIO()
    quarters().save(buffer, "JPEG", quality=100, subsampling=0)
    whole, segment = buffer.getvalue(), b"Exif\0\0" + exif
    path.write_bytes(whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:])
    return path


TURN = (0x0112, 3, 1, struct.pack("<HH", 6, 0))  # "Rotate by 90 degrees to view."
BROKEN_EXIF = {
    "empty": b"",
    "noise": b"\x00\x08\x00\x02\x01\x12\x00\x03noise",
    "a ratio 0/0": tiff(TURN, (0x9204, 10, 1, struct.pack("<I", 38)), extra=struct.pack("<ii", -1, 0)),
    "a negative ratio": tiff(TURN, (0x011A, 5, 1, struct.pack("<I", 38)), extra=struct.pack("<ii", -1, 0)),
    "orientation as text": tiff((0x0112, 2, 2, b"6\0\0\0")),
    "two orientations": tiff((0x0112, 3, 2, struct.pack("<HH", 6, 6))),
    "a value outside": tiff(TURN, (0x010F, 2, 900, struct.pack("<I", 60000))),
    "an unknown type": tiff(TURN, (0x010F, 99, 1, b"\0\0\0\0")),
    "a loop": tiff(TURN, (0x8825, 4, 1, struct.pack("<I", 8)), (0x8769, 4, 1, struct.pack("<I", 8))),
    "a pointer into nothing": tiff(TURN, (0x8769, 4, 1, struct.pack("<I", 3))),
}


@pytest.mark.parametrize("name", ["RGBA.png", "LA.png", "P.png", "I;16.png", "I;16.tif", "L.png", "1.png", "CMYK.jpg"])
def test_a_picture_means_the_same_in_training_and_as_a_first_frame(name: str, tmp_path: Path) -> None:
    mode = name.split(".")[0]
    clear = {mode: half_clear(mode) for mode in ("RGBA", "LA", "P")}
    picture = clear[mode] if mode in clear else deep() if mode == "I;16" else quarters().convert(mode)
    picture.save(tmp_path / name)
    trained, opened = np.asarray(read_picture(tmp_path / name)), load_picture(tmp_path / name, 8, 12)
    np.testing.assert_array_equal(trained, opened)
    with Image.open(tmp_path / name) as image:
        np.testing.assert_array_equal(load_picture(image, 8, 12), opened)
    if mode in clear:
        assert (trained[:4] == 255).all()
    if mode == "I;16":
        np.testing.assert_array_equal(trained[..., 0], np.round(np.asarray(deep()) / 257))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_thirty_two_bits_are_refused_everywhere(dtype: type, tmp_path: Path) -> None:
    picture = Image.fromarray(np.ones((8, 12), dtype))
    picture.save(tmp_path / "deep.tif")
    for read in (read_picture, lambda path: load_picture(path, 8, 12), lambda path: load_picture(picture, 8, 12)):
        with pytest.raises(ValueError, match="expected 8 or 16 bits for each channel"):
            read(tmp_path / "deep.tif")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fault", BROKEN_EXIF)
def test_broken_metadata_do_not_stop_a_picture_whose_pixels_are_whole(fault: str, tmp_path: Path) -> None:
    path = with_exif(tmp_path / "broken.jpg", BROKEN_EXIF[fault])
    stored = read_picture(path, upright=False)
    assert stored.size == SIZE
    np.testing.assert_allclose(np.asarray(stored).astype(int), np.asarray(quarters()), atol=40)
    assert read_picture(path).size in (SIZE, SIZE[::-1])


@pytest.mark.parametrize("orientation", range(1, 10))
def test_a_picture_is_turned_only_where_it_is_to_be_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(tmp_path / "turned.png", exif=exif)
    stored = read_picture(tmp_path / "turned.png", upright=False)
    np.testing.assert_array_equal(np.asarray(stored), np.asarray(quarters()))
    from PIL import ImageOps

    with Image.open(tmp_path / "turned.png") as file:  # a second implementation
        expected = np.asarray(ImageOps.exif_transpose(file))
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "turned.png")), expected)


@pytest.mark.filterwarnings("error")
def test_no_picture_fills_the_memory_or_runs_a_program(tmp_path: Path) -> None:
    Image.new("1", (12_000, 12_000)).save(tmp_path / "large.png")
    chunk = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    (tmp_path / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + chunk + b"\0\0\0\0")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "postscript.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    for name in ("large", "header", "empty", "postscript"):
        with pytest.raises(ValueError, match=rf"^expected a readable picture file, got .*{name}\.png"):
            read_picture(tmp_path / f"{name}.png")
        with pytest.raises(ValueError, match=r"^image: expected a readable picture file"):
            load_picture(tmp_path / f"{name}.png", 8, 12)


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.png, which does not exist"):
        read_picture(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(buffer, "PNG")
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[:1000])
    for name in ("text", "half"):
        with pytest.raises(ValueError, match=rf"expected a readable picture file, got .*{name}\.png"):
            read_picture(tmp_path / f"{name}.png")


def test_pil_images_are_first_frames() -> None:
    expected = np.asarray(quarters())
    np.testing.assert_array_equal(load_picture(quarters(), 8, 12), expected)
    assert (load_picture(half_clear("RGBA"), 8, 12)[:4] == 255).all()
    with pytest.raises(ValueError, match=r"^image: expected .*more than"):
        load_picture(Image.new("1", (12_000, 12_000)), 8, 12)
    with pytest.raises(ValueError, match=r"^image: expected a PIL image with pixels"):
        load_picture(Image.new("RGB", (0, 5)), 8, 12)


def test_a_torn_pil_image_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(buffer, "PNG")
    torn = Image.open(io.BytesIO(buffer.getvalue()[:1000]))
    with pytest.raises(ValueError, match=r"^image: expected a readable PIL image"):
        load_picture(torn, 8, 12)
