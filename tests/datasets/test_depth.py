"""Pixels as files hold them: more than 8 bits, several pages, damaged metadata."""

import io
import struct
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from genscl_lite.datasets import load_data
from genscl_lite.datasets.check import odd_things
from genscl_lite.datasets.decode import look_at, read_rgb
from genscl_lite.datasets.depth import find_intensity, parse_intensity
from tests import folders

RANDOM = np.random.default_rng(0)


of_folder = partial(folders.of_folder, image_size=32)


def fill(root, make, each=5, classes=("cat", "dog")):
    """Write ROOT/CLASS/K.tif of what ``make(number)`` returns: an array or an image."""
    for number in range(each * len(classes)):
        folder = root / classes[number % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        made = make(number)
        image = made if isinstance(made, Image.Image) else Image.fromarray(made)
        image.save(folder / f"{number}.tif")
    return root


def noise(low, high, dtype, shape=(32, 32)):
    return RANDOM.integers(low, high, shape).astype(dtype)


def write_tiff(path, values, order="<", white_is_zero=False):
    """Write (H, W) or (H, W, 3) or (H, W, 4) uint16 as an uncompressed TIFF: PIL itself cannot."""
    height, width, channels = (*values.shape, 1)[:3]
    data, bits = values.astype(f"{order}u2").tobytes(), struct.pack(f"{order}4H", *[16] * 4)
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, 16 if channels == 1 else 250), (259, 3, 1, 1),
        (262, 3, 1, 2 if channels > 1 else 1 - white_is_zero), (273, 4, 1, 300), (277, 3, 1, channels),
        (278, 3, 1, height), (279, 4, 1, len(data)), *([(338, 3, 1, 2)] if channels == 4 else []),
    ]  # fmt: skip
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        head += struct.pack(
            f"{order}HHI" + ("HH" if short else "I"), tag, kind, count, value, *[0] * short
        )
    head += bytes(4)
    path.write_bytes(head.ljust(250, b"\0") + bits.ljust(50, b"\0") + data)


def png(chunks):
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_png16(path, values, extra=()):
    """Write (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) uint16 as a PNG."""
    height, width, channels = (*values.shape, 1)[:3]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    path.write_bytes(
        png([(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    )


def stretched(values, low, high):
    """What values should become, slowly: (3, H, W)."""
    rgb = np.round((np.clip(values.astype(float), low, high) - low) / (high - low) * 255)
    rgb = np.repeat(rgb[..., None], 3, axis=2) if rgb.ndim == 2 else rgb
    return torch.from_numpy(rgb.astype(np.uint8)).permute(2, 0, 1)


# A. More than 8 bits


@pytest.mark.parametrize("resident", ["always", "never"])
def test_twelve_bits_in_files_of_sixteen_keep_their_gray_levels(tmp_path, resident):
    root = fill(tmp_path, lambda k: noise(0, 4096, "uint16"))
    data = load_data(of_folder(resident=resident), root)
    assert data.intensity == (0, 4095)
    images = torch.cat(list(data.train_images.split(20)))
    for image, file in zip(images, data.train_files, strict=True):
        values = np.asarray(Image.open(root / file))
        assert torch.equal(image, stretched(values, 0, 4095)) and len(image.unique()) > 200
    assert 0.45 < data.mean[0] < 0.55 and 0.25 < data.std[0] < 0.33
    assert any("0 becomes black and 4095 white" in note for note in odd_things(data))


@pytest.mark.parametrize("values, intensity", [
    (noise(0, 65536, "uint16", (10, 32, 32)), (0, 65535)),
    (noise(0, 200, "uint16", (10, 32, 32)), (0, 255)),
    (np.clip(noise(29_000, 32_000, "uint16", (10, 32, 32)), 30_000, 31_000), (30_000, 31_000)),
    (np.clip(noise(-2000, 5000, "int32", (10, 32, 32)), -1024, 3071), (-1024, 3071)),
    (RANDOM.random((10, 32, 32), dtype="float32"), (0, 1)),
    (RANDOM.random((10, 32, 32), dtype="float32") * 0.004 + 7, (7.0, 7.004)),
    (np.full((10, 32, 32), -3, dtype="int32"), (-3, -2)),
])  # fmt: skip
def test_the_range_of_all_files_is_stretched(tmp_path, values, intensity):
    """Full, unused at one end or at both, signed, floating point, a single value."""
    root = fill(tmp_path, lambda k: values[k])
    data = load_data(of_folder(), root)
    assert data.intensity == pytest.approx(intensity, rel=1e-5)
    for image, file in zip(data.train_images, data.train_files, strict=True):
        expected = stretched(values[int(file[4:-4])], *data.intensity)
        assert torch.equal(image, expected)


def test_one_bright_file_among_dark_ones_shares_their_range_and_they_are_named(tmp_path):
    root = fill(tmp_path, lambda k: noise(0, 60_000 if k == 3 else 4096, "uint16"))
    data = load_data(of_folder(), root)
    assert data.intensity == (0, 65535)
    [said] = [note for note in odd_things(data) if "small part" in note]
    assert said.startswith("9 files use a small part of the range (0 to 65535): ")
    clipped = load_data(of_folder(intensity="0, 4095"), root)
    assert clipped.intensity == (0, 4095)
    [said] = odd_things(clipped)
    assert said.startswith("1 files have values outside intensity=0,4095, which are cut off: dog/3")


@pytest.mark.parametrize("order", ["<", ">"])
def test_colors_of_sixteen_bits_are_read_whole(tmp_path, order):
    """PIL gives the upper 8 bits of TIFF and PNG."""
    values = noise(0, 4096, "uint16", (20, 30, 3))
    write_tiff(tmp_path / "a.tif", values, order)
    write_png16(tmp_path / "a.png", values)
    Image.open(tmp_path / "a.tif")  # PIL knows it
    for name in ("a.tif", "a.png"):
        rgb, glance = look_at(tmp_path / name, (0, 4095))
        assert torch.equal(rgb, stretched(values, 0, 4095))
        assert (glance.kind, glance.low, glance.high) == ("uint16", values.min(), values.max())


def test_sixteen_bits_may_be_transparent_or_inverted(tmp_path):
    values = noise(1, 4096, "uint16", (20, 30, 4))
    values[..., 3] = 65535
    values[:, :10, 3] = 0
    for name, write in (("a.tif", write_tiff), ("a.png", write_png16)):
        write(tmp_path / name, values)
        rgb, glance = look_at(tmp_path / name, (0, 4095))
        assert (rgb[:, :, :10] == 255).all() and glance.high == values[..., :3].max()
        assert torch.equal(rgb[:, :, 10:], stretched(values[:, 10:, :3], 0, 4095))
    gray = values[..., 0].copy()
    gray[:, :10] = 7
    write_png16(tmp_path / "key.png", gray, [(b"tRNS", struct.pack(">H", 7))])
    rgb = read_rgb(tmp_path / "key.png", (0, 4095))
    assert (rgb[:, gray == 7] == 255).all()
    assert torch.equal(rgb[:, gray != 7], stretched(gray, 0, 4095)[:, gray != 7])
    write_tiff(tmp_path / "white_is_zero.tif", gray, white_is_zero=True)
    rgb, glance = look_at(tmp_path / "white_is_zero.tif", (0, 65535))
    assert glance.high == 65535 - gray.min() and torch.equal(rgb, stretched(65535 - gray, 0, 65535))


def jpeg2000_of_16_bits(path):
    out = io.BytesIO()
    Image.fromarray(noise(0, 256, "uint8", (20, 20, 3))).save(out, "JPEG2000")
    content = bytearray(out.getvalue())
    content[content.find(b"\xff\x51") + 40] = 15
    path.write_bytes(content)


@pytest.mark.parametrize("name, write", [
    ("a.ppm", lambda path: path.write_bytes(b"P6\n20 20\n65535\n" + bytes(2400))),
    ("a.png", lambda path: write_png16(path, noise(0, 4096, "uint16", (20, 20, 2)))),
    ("a.jp2", jpeg2000_of_16_bits),
])  # fmt: skip
def test_colors_whose_lower_bits_cannot_be_had_are_refused(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(ValueError, match="with more than 8 bits a channel in a form that cannot"):
        look_at(tmp_path / name)


def test_deep_pixels_stand_upright_too(tmp_path):
    image = Image.fromarray(noise(0, 4096, "uint16", (20, 30)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "plain.png")
    turned, plain = (read_rgb(tmp_path / f"{n}.png", (0, 4095)) for n in ("turned", "plain"))
    assert torch.equal(turned, plain.rot90(-1, dims=(1, 2)))


def test_values_that_are_not_finite_make_a_file_unreadable(tmp_path):
    values = RANDOM.random((8, 8), dtype="float32")
    values[3, 4] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif: cannot be read: NaN or infinity among its pixels"):
        look_at(tmp_path / "a.tif")


def test_without_a_range_deep_pixels_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 4071]], dtype="uint16")).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="pixels of type uint16, 0 to 4071, and which of them are"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["5", "a,b", "4095,0", "0,0", "0,inf", "nan,1", "1,2,3", ","])
def test_an_intensity_that_is_none_is_named(text):
    with pytest.raises(
        ValueError, match="^intensity: expected the values of black and white, such as 0,4095, got"
    ):
        of_folder(intensity=text)


def test_the_range_is_held_by_as_few_bits_as_can():
    for low, high in ((0, 1), (0, 255), (0, 256), (1, 4095), (0, 0), (-5, 5), (100, 100)):
        black, white = find_intensity(low, high)
        assert black <= low <= high <= white and black < white
    assert parse_intensity("") is None and parse_intensity("-1,1e3") == (-1, 1000)


def test_a_run_remembers_the_range_for_new_images(tmp_path):
    from genscl_lite.runs.job import Job, train_job
    from genscl_lite.runs.trained import Encoder

    root = fill(tmp_path / "photos", lambda k: noise(0, 4096, "uint16"))
    config = of_folder(method="ce", epochs=1, warmup_epochs=0, batch_size=8, precision="float32")
    list(train_job(Job(config.method, (config,), tmp_path / "run", data_root=str(root))))
    encoder = Encoder.load(tmp_path / "run")
    assert encoder.dataset.intensity == (0, 4095)
    files = sorted(root.rglob("*.tif"))[:3]
    pixels = torch.stack([stretched(np.asarray(Image.open(file)), 0, 4095) for file in files])
    assert torch.equal(encoder.probabilities(files), encoder.probabilities(pixels))


# B. Pages


def frames(count):
    return [Image.fromarray(noise(0, 256, "uint8", (32, 32, 3))) for _ in range(count)]


@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "mpo", "png"])
def test_several_pages_are_counted_and_the_first_is_taken_or_none(tmp_path, ending):
    """A stack, animations, a camera's pair."""
    root = fill(tmp_path, lambda k: frames(1)[0], each=3)
    first, *others = frames(5)
    options = {"lossless": True} if ending == "webp" else {}
    first.save(root / "cat" / f"a.{ending}", save_all=True, append_images=others, **options)
    first.save(root / "cat" / f"b.{ending}", **options)
    rgb, glance = look_at(root / "cat" / f"a.{ending}")
    assert glance.pages == 5 and torch.equal(rgb, read_rgb(root / "cat" / f"b.{ending}"))
    assert look_at(root / "cat" / f"b.{ending}")[1].pages == 1
    [said] = [note for note in odd_things(load_data(of_folder(), root)) if "pages" in note]
    assert said.startswith("1 files have several pages, of which the first is used: cat/a.")
    assert said.endswith("(5 pages)")
    with pytest.raises(ValueError, match=rf"cannot be read: cat/a.{ending} \(5 pages; pages="):
        load_data(of_folder(pages="stop"), root)


# C, D. Metadata


def with_chunk(path, name, data):
    """Put a chunk behind a PNG's header."""
    content = path.read_bytes()
    chunk = png([(name, data)])[8:]
    path.write_bytes(content[:33] + chunk + content[33:])


@pytest.mark.parametrize("name, data", [
    (b"zTXt", b"note\0\0" + zlib.compress(bytes(2**21))),
    (b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(2**21))),
    (b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**21))),
    (b"iCCP", b"icc\0\0no zlib"),
    (b"zTXt", b"note\0\7"),
    (b"tIME", b"\1"),
    (b"gAMA", b""),
    (b"pHYs", b"\1\2"),
    (b"sRGB", b""),
    (b"cHRM", b"\1"),
])  # fmt: skip
def test_text_and_profiles_of_a_png_never_cost_its_pixels(tmp_path, name, data):
    """Vast when unpacked, or damaged."""
    frames(1)[0].save(tmp_path / "a.png")
    expected = read_rgb(tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", name, data)
    assert torch.equal(read_rgb(tmp_path / "a.png"), expected)


def test_a_checksum_counts_for_pixels_alone(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "text")
    exif = Image.Exif()
    exif[0x0112] = 3
    frames(1)[0].save(tmp_path / "a.png", pnginfo=info, exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    expected, at = read_rgb(tmp_path / "a.png"), content.find(b"tEXtnote")
    (tmp_path / "a.png").write_bytes(content[: at + 9] + b"X" + content[at + 10 :])
    assert torch.equal(read_rgb(tmp_path / "a.png"), expected)  # upright as well
    at = content.find(b"eXIf")
    (tmp_path / "a.png").write_bytes(content[: at - 4 + 12] + b"XX" + content[at - 4 + 14 :])
    assert read_rgb(tmp_path / "a.png").shape == expected.shape  # EXIF of no byte order
    at = content.find(b"IDAT")
    (tmp_path / "a.png").write_bytes(content[: at + 40] + b"XXX" + content[at + 43 :])
    with pytest.raises(ValueError, match="a.png: cannot be read"):
        read_rgb(tmp_path / "a.png")


def exif_of(*entries):
    """Return an EXIF block of (tag, type, count, value or offset)."""
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    return head + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(40)


TURNED = (0x0112, 3, 1, 6)


@pytest.mark.parametrize("damage, turned", [
    ([TURNED, (0x011A, 10, 1, 38)], True),  # a signed rational of (0, 0)
    ([TURNED, (0x829A, 5, 1, 10**6)], True),  # its value lies behind the end
    ([TURNED, (0x8769, 4, 1, 10**6)], True),  # a directory behind the end
    ([TURNED, (0x8825, 4, 1, 8)], True),  # a directory that is its own
    ([TURNED, (0x9286, 99, 1, 0)], True),  # of a type that is none
    ([TURNED, (0x010F, 2, 2**31, 8)], True),  # two billion letters
    ([(0x0112, 3, 1, 0)], False),
    ([(0x0112, 3, 1, 99)], False),
    ([(0x0112, 2, 4, 0x61)], False),  # a letter
    ([(0x0112, 10, 1, 38)], False),
    ([(0x0112, 3, 2, 6 * 65537)], True),  # twice 6
])  # fmt: skip
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_damaged_exif_never_costs_pixels_or_orientation(tmp_path, damage, turned, ending):
    image = Image.fromarray(noise(0, 256, "uint8", (20, 30, 3)))
    options = {"lossless": True} if ending == "webp" else {}
    image.save(tmp_path / f"plain.{ending}", **options)
    image.save(tmp_path / f"damaged.{ending}", exif=exif_of(*damage), **options)
    plain, damaged = (read_rgb(tmp_path / f"{name}.{ending}") for name in ("plain", "damaged"))
    assert torch.equal(damaged, plain.rot90(-1, dims=(1, 2)) if turned else plain)


def test_a_signed_rational_of_minus_one_by_zero_costs_nothing(tmp_path):
    image = Image.fromarray(noise(0, 256, "uint8", (20, 30, 3)))
    block = exif_of(TURNED, (0x9201, 10, 1, 38))[:-40] + bytes(4) + struct.pack("<ii", -1, 0)
    image.save(tmp_path / "damaged.jpg", exif=block)
    image.save(tmp_path / "plain.jpg")
    damaged, plain = (read_rgb(tmp_path / f"{name}.jpg") for name in ("damaged", "plain"))
    assert torch.equal(damaged, plain.rot90(-1, dims=(1, 2)))
