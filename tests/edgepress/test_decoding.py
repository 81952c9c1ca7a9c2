"""Pictures of every kind become upright RGB pixels, or are refused in words."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgepress import decoding
from edgepress.dataset import open_data
from edgepress.decoding import picture_of
from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing, PreprocessMode

pytestmark = pytest.mark.filterwarnings("error")

Pixels = NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[2]
SPEC = Preprocessing(PreprocessMode.NONE, 224, 224)
LEAST = SPEC.least_size
UPRIGHT = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

# How an upright picture is stored, by the tag's value: EXIF 2.32, section 4.6.4, says which sides of it the
# first row and the first column are.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright.swapaxes(0, 1)[::-1],  # right, top
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def pixels_of(path: Path) -> Pixels:
    found = picture_of(path, LEAST)
    assert found.mode == "RGB"
    return np.asarray(found)


def png_of(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file with the filter byte of each row in `rows` (PNG 1.2, section 3)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def huge_png() -> bytes:
    """20,000×20,000 black pixels of one bit."""
    return png_of(20_000, 20_000, 1, 0, bytes(20_000 * 2_501))


def jpeg_of(width: int, height: int, orientation: int = 1, **more: object) -> bytes:
    """A JPEG file of any size whose columns go from one colour to another, without the memory that it takes.

    Every 16 rows stand for themselves, behind a restart marker, so those of a low picture are repeated.
    """
    slope = np.linspace(0, 255, width).astype(np.uint8)
    low = np.ascontiguousarray(
        np.broadcast_to(np.stack([slope, slope[::-1], np.full(width, 90, np.uint8)], -1), (32, width, 3))
    )
    stream = io.BytesIO()
    Image.fromarray(low).save(stream, "JPEG", restart_marker_rows=1, exif=exif_of(orientation), **more)
    whole = stream.getvalue()
    frame = whole.index(b"\xff\xc0")
    scan = whole.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(whole[scan + 2 : scan + 4], "big")
    rows = whole[start : whole.index(b"\xff\xd0", start)]
    head = whole[: frame + 5] + struct.pack(">H", height) + whole[frame + 7 : start]
    count = -(-height // 16)
    return head + b"".join(rows + bytes([0xFF, 0xD0 + i % 8]) for i in range(count))[:-2] + b"\xff\xd9"


@pytest.mark.parametrize("ending", ["png", "tiff", "webp", "bigtiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](UPRIGHT)))
    path = tmp_path / f"picture.{ending.removeprefix('big')}"
    stored.save(path, exif=exif_of(orientation), lossless=True, big_tiff=ending == "bigtiff")
    np.testing.assert_array_equal(pixels_of(path), UPRIGHT)


@pytest.mark.parametrize("orientation", STORED)
def test_jpeg_is_turned_as_pillow_does_it(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "picture.jpg"
    smooth = np.asarray(Image.fromarray(UPRIGHT).resize((320, 160), Image.Resampling.BICUBIC))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](smooth)))
    stored.save(path, exif=exif_of(orientation), quality=95)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    found = pixels_of(path)
    np.testing.assert_array_equal(found, wanted)
    assert np.abs(found.astype(int) - smooth).mean() < 5


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0no TIFF file", exif_of(0).tobytes(), exif_of(9).tobytes()]
)
def test_exif_that_says_nothing_is_passed_over(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(UPRIGHT).save(path, exif=exif)
    np.testing.assert_array_equal(pixels_of(path), UPRIGHT)


def test_exif_damaged_anywhere_hinders_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    exif = exif_of(6)
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    Image.fromarray(UPRIGHT).save(path, exif=exif)
    whole, content = path.read_bytes(), exif.tobytes()
    start, sizes = whole.index(content), set()
    for i in range(6, len(content)):
        path.write_bytes(whole[: start + i] + bytes([whole[start + i] ^ 0xFF]) + whole[start + i + 1 :])
        with warnings.catch_warnings(action="ignore"):  # pillow's, of damaged EXIF
            sizes.add(picture_of(path, LEAST).size)
    assert sizes == {(30, 20), (20, 30)}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_every_mode_is_as_pillow_converts_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.png"
    image = Image.fromarray(UPRIGHT).convert(mode)
    image.save(path)
    np.testing.assert_array_equal(pixels_of(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("is_progressive", [False, True])
def test_jpeg_of_every_mode_is_as_pillow_converts_it(tmp_path: Path, mode: str, is_progressive: bool) -> None:
    path = tmp_path / "picture.jpg"
    Image.fromarray(UPRIGHT).convert(mode).save(path, progressive=is_progressive)
    with Image.open(path) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(pixels_of(path), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_and_the_colour_below_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    alpha = np.arange(600, dtype=np.uint8).reshape(20, 30, 1)
    for opaque in (0, 1):
        Image.fromarray(np.concatenate([UPRIGHT, alpha * opaque], -1)).save(path)
        np.testing.assert_array_equal(pixels_of(path), UPRIGHT)
    Image.fromarray(UPRIGHT).save(path, transparency=tuple(int(v) for v in UPRIGHT[0, 0]))
    np.testing.assert_array_equal(pixels_of(path), UPRIGHT)


@pytest.mark.parametrize(("ending", "transparency"), [("png", 3), ("png", bytes([0, 128, 255])), ("gif", 3)])
def test_palette_with_transparency_gives_its_colours(
    tmp_path: Path, ending: str, transparency: int | bytes
) -> None:
    path = tmp_path / f"picture.{ending}"
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    values = np.arange(600, dtype=np.uint8).reshape(20, 30)
    image = Image.fromarray(values).convert("P")
    image.putpalette(colours.tobytes())
    image.save(path, transparency=transparency)
    np.testing.assert_array_equal(pixels_of(path), colours[values])


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_with_sixteen_bits_gives_the_upper_byte(tmp_path: Path, colour: int, channels: int) -> None:
    path = tmp_path / "picture.png"
    values = np.random.default_rng(2).integers(0, 65536, (8, 5, channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(png_of(5, 8, 16, colour, rows))
    wanted = (values[..., :3] if channels > 2 else values[..., :1].repeat(3, -1)) >> 8
    np.testing.assert_array_equal(pixels_of(path), wanted)


@pytest.mark.parametrize("orientation", STORED)
def test_sixteen_bits_are_turned_too(tmp_path: Path, orientation: int) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (8, 5), dtype=np.uint16)
    stored = np.ascontiguousarray(np.asarray(STORED[orientation](values)))  # type: ignore[arg-type]
    for ending in ("png", "tiff"):
        path = tmp_path / f"picture.{ending}"
        Image.fromarray(stored).save(path, exif=exif_of(orientation))
        np.testing.assert_array_equal(pixels_of(path)[..., 0], values >> 8)


def test_tiff_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "picture.tiff"
    values = np.random.default_rng(4).integers(0, 65536, (8, 5), dtype=np.uint16)
    entries = ((256, 5), (257, 8), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 8), (279, 80))
    directory = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + bytes(4)
    path.write_bytes(head + values.astype(">u2").tobytes())
    with Image.open(path) as image:
        assert image.mode == "I;16B"
    np.testing.assert_array_equal(pixels_of(path)[..., 2], values >> 8)


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tiff"])
def test_first_frame_of_an_animation_counts(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(path) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    np.testing.assert_array_equal(pixels_of(path), np.asarray(frames[0]))


def test_first_picture_of_a_phones_several_counts(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    first = Image.fromarray(UPRIGHT)
    first.save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    with Image.open(path) as image:
        assert image.format == "MPO"
        np.testing.assert_array_equal(pixels_of(path), np.asarray(image))


@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg", "png", "tiff", "webp"])
def test_one_pixel_is_a_picture_and_a_name_says_nothing(tmp_path: Path, ending: str) -> None:
    Image.new("RGB", (1, 1), (255, 255, 255)).save(tmp_path / f"one.{ending}")
    (tmp_path / f"one.{ending}").rename(tmp_path / "one.txt")
    assert pixels_of(tmp_path / "one.txt").tolist() == [[[255, 255, 255]]]
    assert SPEC.crop(picture_of(tmp_path / "one.txt", LEAST)).shape == (224, 224, 3)


@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg", "png", "tiff", "webp"])
def test_truncated_picture_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(UPRIGHT).resize((100, 80)).save(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            picture_of(path, LEAST)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no BMP, GIF, JPEG, PNG, TIFF or WebP"),
        (b"<html>404</html>", "it is no BMP, GIF, JPEG, PNG, TIFF or WebP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no BMP, GIF"),
        (b"\xff\xd8\xff", r"\S"),
        (b"GIF89a", r"\S"),
        (b"GIF89a\xff\xff\xff\xff", "it has 65,535 × 65,535 pixels"),
        (None, "No such file"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "picture.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        picture_of(path, LEAST)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.tiff"
    Image.new(mode, (8, 8)).save(path)
    with pytest.raises(
        ValueError, match=f"^its pixels are of mode {mode}, and 8 or 16 bits a channel are wanted$"
    ):
        picture_of(path, LEAST)


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGEST_PIXELS", 4096)


def test_large_jpeg_is_reduced_no_more_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    for size, wanted in (
        ((64, 64), (64, 64)),
        ((65, 64), (33, 32)),
        ((129, 128), (33, 32)),
        ((256, 250), (64, 63)),
        ((300, 256), (38, 32)),
    ):
        (tmp_path / "a.jpg").write_bytes(jpeg_of(*size))
        assert picture_of(tmp_path / "a.jpg", (1, 1)).size == wanted


@pytest.mark.parametrize("orientation", STORED)
def test_large_jpeg_stays_as_large_as_the_network_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    few(monkeypatch)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_of(300, 50, orientation))  # upright, it is 300 wide or 300 high
    size, too_large = ((150, 25), (150, 26)) if orientation < 5 else ((25, 150), (26, 150))
    assert picture_of(path, size).size == size
    with pytest.raises(ValueError, match="it has 300 × 50 pixels; wanted are at most 4,096"):
        picture_of(path, too_large)


def test_large_picture_that_cannot_be_reduced_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    image = Image.new("RGB", (80, 70))
    image.save(tmp_path / "progressive.jpg", progressive=True)
    for ending in ("bmp", "gif", "png", "tiff", "webp"):
        image.save(tmp_path / f"other.{ending}")
    whole = bytearray(jpeg_of(80, 70))
    scan = whole.index(b"\xff\xda")
    assert whole[scan + 4] == 3
    whole[scan + 4] = 1  # as if each colour had a scan of its own
    (tmp_path / "scans.jpg").write_bytes(whole)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 7
    for path in paths:
        wanted = "it has 80 × 70 pixels; wanted are at most 4,096, or a JPEG that is not progressive, "
        with pytest.raises(ValueError, match=f"^{wanted}which is decoded smaller: scale it down$"):
            picture_of(path, (1, 1))


@pytest.mark.parametrize("orientation", [1, 6])
def test_phones_200_megapixels_look_as_the_small_picture_does(tmp_path: Path, orientation: int) -> None:
    found = []
    for name, size in (("large.jpg", (12_240, 16_320)), ("small.jpg", (1_224, 1_632))):
        (tmp_path / name).write_bytes(jpeg_of(*size, orientation))
        found.append(SPEC.crop(picture_of(tmp_path / name, LEAST)).astype(int))
    difference = np.abs(found[0] - found[1])
    assert difference.max() <= 5
    assert difference.mean() < 1
    across = found[0].mean(axis=(0, 2) if orientation == 1 else (1, 2))
    assert np.ptp(found[0][..., 0]) > 150
    assert np.ptp(across) < 10  # red rises as green falls


MEASURED = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import numpy, PIL.Image
from edgepress.decoding import picture_of
from edgepress.preprocessing import Preprocessing, PreprocessMode

def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

before, spec = peak_bytes(), Preprocessing(PreprocessMode.TF, 224, 224)
try:
    image = picture_of(Path(sys.argv[1]), spec.least_size)
    found = f"{image.size} {spec.crop(image).shape}"
except ValueError as error:
    found = str(error)
print(peak_bytes() - before, found)
"""


@pytest.mark.serial
@pytest.mark.parametrize(
    ("name", "most_bytes", "wanted"),
    [
        ("huge.jpg", 200e6, "(5000, 5000) (224, 224, 3)"),
        ("phone.jpg", 450e6, "(6120, 8160) (224, 224, 3)"),
        ("huge.png", 20e6, "it has 20,000 × 20,000 pixels; wanted are at most 67,108,864, or a JPEG"),
    ],
)
def test_memory_stays_bounded(tmp_path: Path, name: str, most_bytes: float, wanted: str) -> None:
    content = {
        "huge.jpg": lambda: jpeg_of(20_000, 20_000),
        "phone.jpg": lambda: jpeg_of(16_320, 12_240, 6),  # turned: twice its 200 MB
        "huge.png": huge_png,
    }
    (tmp_path / name).write_bytes(content[name]())
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / name)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, _, found = done.stdout.partition(" ")
    assert int(peak) < most_bytes
    assert found.startswith(wanted)
    assert done.stderr == ""


def test_thin_picture_takes_no_more_memory_than_another(tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    columns = np.arange(40_000, dtype=np.uint32)
    row = ((columns * 7) % 256).astype(np.uint8)
    path.write_bytes(png_of(40_000, 1, 8, 0, b"\0" + row.tobytes()))
    found = SPEC.crop(picture_of(path, LEAST))  # as a whole it would be scaled to 10,240,000×256
    middle = row[19_990:20_010].astype(int)
    assert (found == found[:1]).all()
    assert middle.min() <= found.min() <= found.max() <= middle.max()


@pytest.mark.parametrize("size", [(96, 2), (2, 96), (64, 1)])
def test_part_of_a_thin_picture_is_scaled_as_the_whole_is(size: tuple[int, int]) -> None:
    spec = Preprocessing(PreprocessMode.NONE, 16, 16)
    values = np.random.default_rng(5).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(values)
    scale = 16 / min(size) / 0.875
    whole = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
    left, top = (whole.width - 16) // 2, (whole.height - 16) // 2
    wanted = np.asarray(whole.crop((left, top, left + 16, top + 16))).astype(int)
    assert np.abs(spec.crop(image) - wanted).max() <= 1


@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg", "png"])
def test_pillows_own_limit_has_no_say_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(UPRIGHT).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    before = list(warnings.filters)
    assert picture_of(path, LEAST).size == (30, 20)
    assert Image.MAX_IMAGE_PIXELS == 10
    assert list(warnings.filters) == before


def test_dataset_reads_pictures_upright_and_refuses_in_one_line(tmp_path: Path) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](UPRIGHT[:, :20])))
    stored.save(tmp_path / "a.png", exif=exif_of(6))
    (tmp_path / "b.png").write_bytes(huge_png())
    pictures = open_data(str(tmp_path)).evaluation.pictures
    spec = Preprocessing(PreprocessMode.NONE, 20, 20)
    np.testing.assert_array_equal(pictures[0].read(spec), UPRIGHT[:, :20])
    with pytest.raises(InputError) as refusal:
        pictures[1].read(spec)
    assert str(refusal.value) == (
        f"The picture {tmp_path / 'b.png'} cannot be decoded (it has 20,000 × 20,000 pixels; wanted are at "
        "most 67,108,864, or a JPEG that is not progressive, which is decoded smaller: scale it down). "
        "Remove it or replace it."
    )


def test_module_is_imported_without_pillow_and_numpy() -> None:
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(('PIL', 'numpy', 'edgepress')))\n"
        f"names = runpy.run_path({decoding.__file__!r})\n"
        "import pathlib\n"
        "try: names['picture_of'](pathlib.Path('x'), (1, 1))\n"
        "except ImportError: print('as told')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("as told\n", "")
