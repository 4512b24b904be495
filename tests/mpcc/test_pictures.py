"""Pictures that a user may supply: strange modes, EXIF, wrong or harmful files."""

import os

import numpy as np
import pytest
from PIL import Image

from mpcc import pictures
from mpcc.pictures import inside, open_picture, picture_size

WIDTH, HEIGHT = 40, 30


def saved(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def turned(tmp_path, orientation, size=(WIDTH, HEIGHT), name="a.jpg"):
    """White on the left half as stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", size)
    image.paste("white", (0, 0, size[0] // 2, size[1]))
    return saved(tmp_path, image, name, exif=exif)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bit_grey_is_scaled(tmp_path, name):
    grey = np.full((HEIGHT, WIDTH), 128 * 257, dtype=np.uint16)
    grey[0, :2] = 0, 65535
    opened = np.asarray(open_picture(saved(tmp_path, Image.fromarray(grey), name)))
    assert opened.shape == (HEIGHT, WIDTH, 3)
    assert (opened[0, 0] == 0).all() and (opened[0, 1] == 255).all() and (opened[1:] == 128).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_without_a_known_white_is_refused(tmp_path, mode):
    with pytest.raises(ValueError, match=f"mode {mode}.*save it with 8 or 16 bits"):
        open_picture(saved(tmp_path, Image.new(mode, (WIDTH, HEIGHT), 7), "a.tif"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "tRNS"])
def test_what_is_transparent_is_white(tmp_path, mode):
    image = Image.new("RGBA", (WIDTH, HEIGHT), (200, 200, 200, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 10))
    options = {}
    if mode == "tRNS":
        image, options = image.convert("RGB"), {"transparency": (0, 0, 0)}
    elif mode == "P":
        image = Image.new("P", (WIDTH, HEIGHT), 1)
        image.putpalette([0, 0, 0, 200, 200, 200])
        image.paste(0, (0, 0, 10, 10))
        options = {"transparency": 0}
    else:
        image = image.convert(mode)
    opened = np.asarray(open_picture(saved(tmp_path, image, **options)))
    assert (opened[:10, :10] == 255).all() and (opened[10:, 10:] == 200).all()


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr"])
def test_other_modes_are_converted(tmp_path, mode):
    image = Image.new("RGB", (WIDTH, HEIGHT), "white").convert(mode)
    opened = np.asarray(open_picture(saved(tmp_path, image, "a.tif")))
    assert opened.shape == (HEIGHT, WIDTH, 3) and opened.min() > 250


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_is_applied_where_the_stated_size_is_the_upright_one(tmp_path, orientation):
    path = turned(tmp_path, orientation)
    stored = np.asarray(open_picture(path, (WIDTH, HEIGHT)))
    assert stored.shape == (HEIGHT, WIDTH, 3) and stored[:, :12].min() > 200 and stored[:, -12:].max() < 50
    upright = np.asarray(open_picture(path, (HEIGHT, WIDTH)))
    bright, dark = (upright[:12], upright[-12:]) if orientation in (5, 6) else (upright[-12:], upright[:12])
    assert upright.shape == (WIDTH, HEIGHT, 3) and bright.min() > 200 and dark.max() < 50


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_exif_is_refused_where_the_boxes_fit_both_ways(tmp_path, orientation):
    path = turned(tmp_path, orientation)
    for stated in (None, (WIDTH, HEIGHT)):
        with pytest.raises(ValueError, match=f"orientation {orientation}.*save it upright"):
            open_picture(path, stated)
    with pytest.raises(ValueError, match="save it upright"):
        open_picture(turned(tmp_path, 6, (30, 30)), (30, 30))


def test_the_size_of_a_picture_that_exif_turns_is_not_given(tmp_path):
    assert picture_size(turned(tmp_path, 1)) == (WIDTH, HEIGHT)
    with pytest.raises(ValueError, match=r"orientation 6.*save it upright"):
        picture_size(turned(tmp_path, 6))


def test_exif_is_applied_where_nothing_refers_to_the_pixels(tmp_path):
    assert np.asarray(open_picture(turned(tmp_path, 3), boxes=False))[:, -12:].min() > 200


def test_no_format_that_starts_a_program_is_opened(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (WIDTH, HEIGHT)), "a.eps")
    with pytest.raises(ValueError, match="it is none of JPEG, PNG"):
        open_picture(path)


def test_pipes_devices_and_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"):
            open_picture(path)


@pytest.mark.parametrize("keep", [0, 20, 350])
def test_a_truncated_picture_chains_the_reason(tmp_path, keep):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), "a.jpg")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="download it again") as caught:
        open_picture(path)
    assert isinstance(caught.value.__cause__, OSError)


def test_pixels_are_bounded_before_they_are_decoded(tmp_path):
    path = tmp_path / "a.pgm"
    for side, match in ((10_001, "it has 10001x10001 pixels, more than 100,000,000"),
                        (20_000, "states more than 100,000,000 pixels")):
        path.write_bytes(b"P5 %d %d 255\n" % (side, side))  # no pixel follows
        for opened in (open_picture, picture_size):
            with pytest.raises(ValueError, match=match):
                opened(path)


def test_a_side_ratio_that_no_processor_takes_is_refused(tmp_path):
    open_picture(saved(tmp_path, Image.new("RGB", (400, 2))))
    with pytest.raises(ValueError, match="one side of 401x2 pixels is over 200 times the other"):
        open_picture(saved(tmp_path, Image.new("RGB", (401, 2))))


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    with pytest.raises(ValueError, match="pointer of Git LFS.*git lfs pull"):
        open_picture(tmp_path / "a.jpg")


def test_any_error_of_a_decoder_is_one_line(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (WIDTH, HEIGHT)))

    def broken(*_):
        raise IndexError("two\nlines")

    monkeypatch.setattr(pictures, "_eight_bits", broken)
    with pytest.raises(ValueError, match="^two lines; download it again$"):
        open_picture(path)


def test_nothing_leads_out_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    saved(tmp_path, Image.new("RGB", (WIDTH, HEIGHT)), "out.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    for name in ("../out.png", str(tmp_path / "out.png"), "link.png", "a\0.png"):
        with pytest.raises(ValueError, match="leads out of"):
            inside(tmp_path / "in", name)
    assert inside(tmp_path / "in", "deep/a.png") == tmp_path / "in" / "deep" / "a.png"
