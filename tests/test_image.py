"Odd, hostile and broken pictures: the right outcome for each, in one line, in little memory, the same on every way in."
import io
import json
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import COMMAND
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from archclf.image import MEGAPIXELS, REASONS, ImageError, read_image, to_square
from archclf.sample import draw_facade

ODD = {  # what each file is: (width, height) upright, or the reason why not
    '01_webp-named-jpg.jpg': (800, 533), '02_webp-named-jpg.jpg': (800, 534), '03_avif-named-jpg.jpg': (626, 351),
    '04_avif-named-jpg.jpg': (626, 351), '05_png-named-jpg.jpg': (800, 595), '06_jpeg-named-png.png': (394, 347),
    '07_webp-named-png.png': (681, 440), '08_cmyk-jpeg.jpeg': (600, 347), '09_grey-alpha-png.png': (1, 1),
    '10_palette.gif': (750, 501), '11_palette.gif': (500, 375), '12_rgba-png.png': (1601, 914),
    '13_mpo-two-frames.jpg': (638, 478), '14_mpo-two-frames.jpg': (1200, 800), '15_huge-6032x4200.jpg': (6032, 4200),
    '16_huge-4912x7360.jpeg': (4912, 7360), '17_icc-profile-over-100kB.jpg': (450, 600), '18_icc-profile-over-100kB.jpg': (485, 600),
    '19_greyscale-jpeg.jpg': (262, 192), '20_gif.gif': (625, 469), '21_real-photo-named.img': (1200, 630),
    '22_real-photo-named.img': (634, 424), '23_SYNTHETIC_truncated-half.jpg': 'damaged',
    '24_SYNTHETIC_truncated-header.jpg': 'not an image', '25_SYNTHETIC_html-saved-as.jpg': 'not an image',
    '26_SYNTHETIC_empty.jpg': 'empty', '27_SYNTHETIC_16bit-grey.png': None, '28_SYNTHETIC_animated.gif': None,
    '29_SYNTHETIC_animated.webp': None, '30_SYNTHETIC_exif-orientation-6.jpg': None,  # of these only that they can be read
    '31_SYNTHETIC_bomb-20000x20000.png': 'too large'}

# Two at a time, started by a small process, because a child's peak memory counts that of its parent from before it became itself.
RUNNER = '''
import json, os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile

def run(path):
    with TemporaryFile() as out, TemporaryFile() as err:
        process = subprocess.Popen([*COMMAND, 'predict', '--json', path], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return path, [process.returncode, usage.ru_maxrss, out.read().decode(), err.read().decode()]

COMMAND = json.loads(sys.argv[1])
with ThreadPoolExecutor(2) as pool: print(json.dumps(dict(pool.map(run, sys.argv[2:]))))
'''


@pytest.fixture(scope='module')
def predicted(photos, cache, tmp_path_factory):
    "`{name: (exit code, peak memory in kB, standard output, standard error)}` of `archclf predict` on each odd file."
    if not hasattr(os, 'wait4'): pytest.skip('needs os.wait4')
    command = [sys.executable, '-c', RUNNER, json.dumps(COMMAND), *[str(photos/'odd'/name) for name in ODD]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path_factory.mktemp('odd'))
    assert done.returncode == 0, done.stderr
    return {os.path.basename(path): result for path, result in json.loads(done.stdout).items()}


def test_the_list_is_complete(photos):
    assert {path.name for path in (photos/'odd').iterdir()} - {'README.md'} == set(ODD)


@pytest.mark.parametrize('name', ODD)
def test_odd_files_on_the_command_line(photos, predicted, name):
    code, memory, out, err = predicted[name]
    assert err == '', err  # warnings would be here
    assert out.count('\n') == 1
    line = json.loads(out)
    assert line['path'] == str(photos/'odd'/name)
    assert ('error' in line) == isinstance(ODD[name], str) == (code == 1)
    if 'error' in line: assert REASONS[ODD[name]] in line['error'] and '\n' not in line['error']
    else: assert sum(line['probabilities'].values()) == pytest.approx(1, abs=1e-5)
    if sys.platform == 'linux': assert memory < 600_000, f'{memory / 1000:.0f} MB'  # elsewhere counted in bytes


def picture_or_error(source):
    "The picture or its ImageError."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that users see none is tested with the command
        try: return read_image(source)
        except ImageError as error:
            assert '\n' not in str(error)
            return error


@pytest.mark.parametrize('name', ODD)
def test_odd_files(photos, name):
    path, expected = photos/'odd'/name, ODD[name]
    found = picture_or_error(path)
    if isinstance(expected, str): assert found.reason == expected and str(found).startswith(f'{path}: ')
    else: assert found.mode == 'RGB' and found.size == (expected or found.size)


def test_upright(photos):
    "Orientation 6: the stored picture is turned a quarter clockwise."
    path = photos/'odd'/'30_SYNTHETIC_exif-orientation-6.jpg'
    with Image.open(path) as stored: expected = stored.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(read_image(path), expected)


def test_first_frame_and_grey_levels(photos):
    with Image.open(photos/'odd'/'28_SYNTHETIC_animated.gif') as animation: first = animation.convert('RGB')
    assert np.array_equal(read_image(photos/'odd'/'28_SYNTHETIC_animated.gif'), first)
    path = photos/'odd'/'27_SYNTHETIC_16bit-grey.png'
    with Image.open(path) as deep: expected = np.asarray(deep) >> 8  # the upper byte, as browsers show it
    assert np.array_equal(np.asarray(read_image(path))[..., 0], expected)


def assert_one_square(path):
    "The same pixels for a path, its bytes, a PIL image and an array."
    whole = read_image(path)
    expected = to_square(whole, 224, .875)
    assert np.array_equal(to_square(read_image(path.read_bytes()), 224, .875), expected)
    assert np.array_equal(to_square(read_image(str(path)), 224, .875), expected)
    assert np.array_equal(to_square(read_image(np.asarray(whole)), 224, .875), expected)
    with Image.open(path) as opened: assert np.array_equal(to_square(read_image(opened), 224, .875), expected)


@pytest.mark.parametrize('name', [name for name in ODD if not isinstance(ODD[name], str)])
def test_every_way_in_is_the_same_for_odd_files(photos, name):
    assert_one_square(photos/'odd'/name)


def test_every_way_in_is_the_same_for_photos(styles8):
    for path in styles8.table.path.sample(50, random_state=5): assert_one_square(Path(path))


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small(kind, **options): return encode(draw_facade('gothic').resize((48, 40)), kind, **options)


def exif(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


BASES = [small('JPEG'), small('JPEG', progressive=True), small('JPEG', exif=exif(6)), small('PNG'), small('PNG', exif=exif(3)),
         encode(draw_facade('gothic').resize((48, 40)).convert('P'), 'PNG', transparency=0), small('WEBP'), small('WEBP', lossless=True),
         small('GIF'), small('GIF', save_all=True, append_images=[draw_facade('modern').resize((48, 40))]), small('BMP')]


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
       st.one_of(st.none(), st.integers(0, 2**16)), st.booleans())
def test_damage_raises_nothing_else(base, changes, cut, early):
    "A file with changed bytes, most of them near its beginning, or with its end missing."
    data = bytearray(base)
    for position, byte in changes: data[position % (min(80, len(data)) if early else len(data))] = byte
    if cut is not None: data = data[:cut % len(data)]
    found = picture_or_error(bytes(data))
    if isinstance(found, ImageError): assert found.reason in ('empty', 'not an image', 'damaged', 'too large')
    else:
        assert found.mode == 'RGB'
        assert to_square(found, 32, .875).shape == (32, 32, 3)


def png(width, height, data=b'\0' * 100, head=13, between=b'IDAT'):
    "A PNG of any declared size with hardly anything in it; the data in two chunks, the second of any kind."
    chunk = lambda kind, content: struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    data, header = zlib.compress(data), struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)[:head]
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', data[:5]) + chunk(between, data[5:]) + chunk(b'IEND', b'')


SIZES = (8001, 8000), (10_000, 10_000), (13_000, 13_000), (14_000, 14_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)
TAGS = {'garbage': b'Exif\0\0garbage', 'no tags': b'Exif\0\0MM\0*\0\0', 'far too many tags': b'Exif\0\0II*\0\x08\0\0\0\xff\xff' + b'\xff'*40,
        'cut off': exif(6)[:-6], 'orientation 99': exif(99), 'orientation 0': exif(0)}


@pytest.mark.parametrize('size', SIZES)
def test_declared_sizes(size):
    "Above what Pillow warns of, above what it refuses, and between: always our own reason."
    assert size[0]*size[1] > MEGAPIXELS*1e6
    assert picture_or_error(png(*size)).reason == 'too large'


@pytest.mark.parametrize('size', [(0, 5), (5, 0), (0, 0)])
def test_no_pixels(size):
    assert picture_or_error(png(*size)).reason in ('not an image', 'damaged')


def test_pillow_raises_more_than_it_says():
    "ValueError for a short header, SyntaxError for an impossible kind of chunk."
    data = b''.join(b'\0' + os.urandom(15) for _ in range(5))
    assert picture_or_error(png(5, 5, data)).size == (5, 5)
    assert picture_or_error(png(5, 5, data, head=11)).reason == 'not an image'
    assert picture_or_error(png(5, 5, data, between=b'v\xfd\xf4J')).reason == 'damaged'


def test_the_square_is_where_it_should_be():
    "On a ramp of one grey level a pixel the values tell the place, to a fraction of a pixel."
    ramp = Image.fromarray(np.broadcast_to(np.arange(250, dtype=np.uint8), (250, 250)))
    for size, share in (224, .875), (100, .9), (50, 1):
        side = 250*share
        expected = (250 - side)/2 + (np.arange(size) + .5)*side/size - .5
        found = to_square(read_image(ramp), size, share)[size//2, :, 0].astype(float)
        assert abs(found - expected).max() <= .76
        for third in np.array_split(found - expected, 3): assert abs(third.mean()) < .06


@pytest.mark.parametrize('name', TAGS)
def test_a_broken_tag_is_no_broken_picture(name):
    "Cameras and editors write bad EXIF all the time: the picture is read as it is stored."
    assert picture_or_error(small('JPEG', exif=TAGS[name])).size == (48, 40)


def test_nobody_is_bothered_with_warnings(run, tmp_path):
    for size in SIZES: (tmp_path/f'{size[0]}x{size[1]}.png').write_bytes(png(*size))
    for name, tags in TAGS.items(): (tmp_path/f'{name}.jpg').write_bytes(small('JPEG', exif=tags))
    done = run('predict', '--json', tmp_path)
    assert done.returncode == 1 and done.stdout.count('\n') == len(SIZES) + len(TAGS)
    assert done.stdout.count('"error"') == len(SIZES)
    assert done.stderr == ''


ARRAYS = [np.zeros(5, np.uint8), np.zeros((), np.uint8), np.zeros((5, 5, 2), np.uint8), np.zeros((5, 5, 5), np.uint8), np.zeros((0, 5), np.uint8),
          np.zeros((5, 0, 3), np.uint8), np.zeros((1, 5, 5, 3), np.uint8), np.zeros((3, 5, 7), np.uint8), np.full((5, 5), np.nan),
          np.full((5, 5, 3), np.inf), np.full((5, 5), 1.01), np.full((5, 5), -.01), np.zeros((5, 5), bool), np.zeros((5, 5), complex),
          np.zeros((5, 5), object), np.zeros((5, 5), 'U3'), np.zeros((5, 5), 'M8[s]'), np.zeros((5, 5, 3), np.int64), np.zeros((5, 5), [('a', 'u1')])]


@pytest.mark.parametrize('array', ARRAYS, ids=lambda array: f'{array.dtype}{list(array.shape)}')
def test_arrays_that_are_no_picture(array):
    assert picture_or_error(array).reason == 'unsupported'


@pytest.mark.parametrize('array', [np.full((5, 7), .5), np.full((5, 7, 1), .5, np.float16), np.full((5, 7, 3), .5, '>f4'),
    np.full((5, 7, 4), .5)[:, ::-1], np.asfortranarray(np.full((5, 7, 3), 128, np.uint8)), np.full((5, 7), 32896, np.uint16),
    np.full((10, 14, 3), 128, np.uint8)[::2, ::2]], ids=lambda array: f'{array.dtype}{list(array.shape)}')
def test_arrays_that_are(array):
    found = read_image(array)
    assert found.size == (7, 5) and found.mode == 'RGB'
    if array.ndim == 3 and array.shape[2] == 4: assert abs(np.asarray(found) - 191.).max() <= 1  # half covers white by half
    else: assert (np.asarray(found) == 128).all()


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'PA', 'LA', 'I', 'F', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'I;16', 'I;16B', 'RGBX', 'RGBa', 'RGBA', 'RGB'])
def test_every_mode_of_pil(mode):
    found = read_image(Image.new(mode, (7, 5)))
    assert (found.mode, found.size) == ('RGB', (7, 5))


@pytest.mark.parametrize('source', [None, 3, [1, 2], Image.Image, Image.new('RGB', (0, 5)), Image.new('L', (5, 0))], ids=['None', 'number', 'list', 'class', 'no width', 'no height'])
def test_other_things(source):
    assert picture_or_error(source).reason in ('unsupported', 'damaged')


def test_a_closed_picture():
    image = Image.open(io.BytesIO(BASES[0]))
    image.close()
    assert picture_or_error(image).reason == 'damaged'


@pytest.mark.parametrize('path, reason', [('nowhere.jpg', 'missing'), ('', 'missing'), ('.', 'unsupported'), ('a\0b.jpg', None), ('a' * 300, None),
                                          ('\udcff.jpg', 'missing'), (__file__ + '/x.jpg', 'missing'), (__file__, 'not an image')])
def test_paths_that_lead_nowhere(path, reason):
    found = picture_or_error(path)
    assert found.reason == reason or reason is None and found.reason in REASONS


@pytest.mark.parametrize('size', [(1, 1), (2, 1), (1, 20_000), (20_000, 1), (3, 5)])
def test_extreme_proportions(size):
    square = to_square(read_image(Image.new('RGB', size, (10, 20, 30))), 224, .875)
    assert (square == (10, 20, 30)).all()


MEASURE = "import os, sys\npid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, '-c', sys.argv[1]])\nprint(*os.wait4(pid, 0)[1:])"


@pytest.mark.skipif(sys.platform != 'linux', reason='counts memory in kB')
@pytest.mark.parametrize('mode', ['RGBA', 'I;16'])
def test_the_largest_picture_allowed(tmp_path, mode):
    "The modes that need most: several whole copies exist at once while they are turned into RGB."
    Image.new(mode, (8000, 8000)).save(tmp_path/'large.png', compress_level=1)
    code = f"from archclf.image import read_image; read_image({str(tmp_path/'large.png')!r})"
    done = subprocess.run([sys.executable, '-c', MEASURE, code], capture_output=True, text=True, cwd=tmp_path)
    status, memory = done.stdout.split()[0], int(re.search(r'ru_maxrss=(\d+)', done.stdout)[1])
    assert status == '0' and memory < 1_200_000, f'{memory / 1000:.0f} MB'
