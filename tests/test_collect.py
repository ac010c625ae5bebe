"""Collecting survives anything: kills, misbehaving servers, damaged manifests, sources that fail; and does not ask twice.

`python tests/test_collect.py 25 300` kills a run for 300 photos 25 times and says what that looked like.
"""
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from conftest import COMMAND
from hypothesis import given, settings
from hypothesis import strategies as st
from imageweb import ImageWeb, encode, picture_bomb, zeros
from PIL import Image, ImageCms, ImageOps

from archclf.collect import (REASONS, SMALLEST, Collector, Manifest, Outcome, Photo, as_record, collect, count_outcomes, lock_folder, make_photo, photo_name,
                             photo_sheet, pictures_in, read_manifest, write_credits)
from archclf.sample import draw_facade
from archclf.sampleweb import SampleWeb, answer
from archclf.search import REASONS as SEARCH_REASONS
from archclf.search import Commons, ImageHit, Openverse
from archclf.web import PASSING, Web

LINUX = sys.platform.startswith('linux')
HERE = ['127.0.0.1', 'localhost']  # two names of this machine: to a polite visitor, two hosts


# A web, sources and records of one's own

class FileWeb(ImageWeb):
    "Sends `files[name]` for /files/name: the bytes of a picture, or (body, kind, status, headers). Waits `pause` seconds before every answer."
    pause = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.files = {}

    def put(self, name, content):
        "Give a file an address."
        self.files[name] = content if isinstance(content, tuple) else (content, 'image/jpeg', 200, {})
        return f'{self.address}/files/{name}'

    def misbehave(self, handler):
        time.sleep(self.pause)
        path = urlsplit(handler.path).path
        if not path.startswith('/files/'): return super().misbehave(handler)
        body, kind, status, headers = self.files.get(path.removeprefix('/files/'), ('', 'text/plain', 404, {}))
        answer(handler, body, kind, status, **headers)

    def asked(self): return Counter(unquote(urlsplit(target).path).rpartition('/')[2] for target in self.requests)


class Shelf:
    "A source with the same result pages for every phrase, or with those of a dictionary by phrase; `asked` is what was asked for."
    def __init__(self, *pages, name='shelf', books=None): self.name, self.fixed, self.books, self.asked = name, pages, books, []

    def pages(self, phrase, label):
        for number, page in enumerate(self.fixed if self.books is None else self.books[phrase]):
            self.asked.append((label, phrase, number))
            yield [ImageHit(**{**vars(hit), 'query': phrase, 'label': label}) for hit in page]


def hit(url, **facts): return ImageHit(url, **{'title': 'A house', 'license': 'CC0', 'provider': 'shelf', **facts})


def quick(**options):
    "A visitor of this machine who does not wait long, but longer than a busy machine takes."
    return Web(**{'allow': HERE, 'connect': 3, 'read': 5, 'total': 15, **options})


def gather(folder, *sources, classes=None, per_class=100, web=None, **options):
    "Collect with a quick `Web`, for a class with one phrase if none is named."
    return collect(folder, {'gothic': ['gothic cathedral']} if classes is None else classes, per_class, sources, web=web or quick(), **options)


def picture(seed, label='gothic', **options):
    "The bytes of a drawing, of the same size for every seed."
    image = draw_facade(label, seed=seed).resize((320, 240))
    file = io.BytesIO()
    options.pop('change', lambda image: image)(image).save(file, **{'format': 'JPEG', 'quality': 90, **options})
    return file.getvalue()


def ends(folder): return {record['url']: (record['status'], record['reason']) for record in read_manifest(folder)}


def lines_of(folder):
    path = folder/'manifest.jsonl'
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


@contextmanager
def said():
    "The warnings of what is done inside."
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        yield warned


def left_by(folder):
    "What a run leaves behind, apart from times: every file, hidden ones too, and the records."
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    return {name: files[name] for name in files if name not in ('manifest.jsonl', '.lock')}, [{**record, 'retrieved': ''} for record in read_manifest(folder)]


def check_same(folder, other):
    (files, records), (other_files, other_records) = left_by(folder), left_by(other)
    assert records == other_records and files == other_files


def opened(path):
    "Read a picture to its end."
    with Image.open(path) as image:
        image.load()
        return image


def write_addresses(path, rows):
    with open(path, 'w', newline='') as file: csv.writer(file).writerows([('url', 'label', 'license'), *((*row, 'CC0') for row in rows)])
    return path


@pytest.fixture(scope='module')
def samples():
    with SampleWeb(per_style=12) as web: yield web


@pytest.fixture
def files():
    with FileWeb() as web: yield web


@pytest.fixture
def folder(tmp_path): return tmp_path/'photos'


def forget(web):
    "Forget what was asked so far, after a moment for what was on its way when a run had enough."
    time.sleep(.1)
    web.requests.clear()


def places(web): return [f'commons={web.commons}', f'openverse={web.openverse}']


# Killed

PROGRAM = '''
import json, sys
from pathlib import Path
from archclf.collect import collect
from archclf.web import Web
options = json.loads(sys.argv[1])
web = Web(allow=['127.0.0.1'], **options.pop('web', {}))
print('ready', flush=True)
collect(**options, web=web)
if sys.platform == 'linux': print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])
'''


def start(folder, **options):
    "A run in a process of its own; returns when it has begun."
    program = [sys.executable, '-W', 'error', '-c', PROGRAM, json.dumps({'folder': str(folder), **options})]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'TQDM_DISABLE': '1'})
    assert process.stdout.readline() == 'ready\n', process.communicate()
    return process


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, '')
    return output


class PacedWeb(SampleWeb):
    "Takes 30 ms for a picture, so that there is time to kill."
    def respond(self, handler):
        time.sleep(.03)
        super().respond(handler)


def check_killed(folder, before):
    "The state of a folder after a kill: no line lost, no photo torn, all photos accounted for. Gives the whole lines, and what is in between."
    data = b''.join(lines_of(folder))
    lines, records, seen = data[:data.rfind(b'\n') + 1], read_manifest(folder), {path.relative_to(folder) for path in pictures_in(folder)}
    assert lines.startswith(before) and len(records) == lines.count(b'\n')
    for path in seen: opened(folder/path)
    promised = {Path(record['path']) for record in records if record['status'] == 'saved'}
    hidden = {path.with_name(f'.{path.name}.part') for path in promised - seen}
    parts = {path.relative_to(folder) for path in folder.glob('*/.*')}
    assert seen <= promised and hidden <= parts
    return lines, {'torn lines': lines != data, 'lines ahead of their photos': len(hidden), 'photos ahead of their lines': len(parts - hidden)}


def kill_at(process, folder, count, seconds):
    "Read the manifest over and over until it has `count` lines, wait a little, and kill."
    reads = 0
    while process.poll() is None and len(lines_of(folder)) < count:
        with said() as nothing: read_manifest(folder)
        assert not nothing
        reads += 1
        time.sleep(.005)
    time.sleep(seconds)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive, reads


def kill_again_and_again(home, kills, photos, seed):
    "Two runs for the same photos, one of them killed over and over; gives numbers about that."
    classes, rng, told = ['gothic', 'modern', 'victorian'], np.random.default_rng(seed), Counter()
    with PacedWeb(per_style=-(-photos * 8 // 30)) as web:
        options = {'classes': classes, 'per_class': photos // 3, 'sources': places(web)}
        finish(start(home/'calm', **options))
        total, before = len(lines_of(home/'calm')), b''
        for count in sorted(rng.integers(0, int(.75 * total), kills)):
            process = start(home/'killed', **options)
            alive, reads = kill_at(process, home/'killed', count, rng.uniform(0, .04))
            before, state = check_killed(home/'killed', before) if (home/'killed').exists() else (b'', {})
            told.update({'kills': alive, 'reads': reads, **state})
        finish(start(home/'killed', **options))
    check_killed(home/'killed', before)
    check_same(home/'killed', home/'calm')
    keys = [(record['url'], record['label']) for record in map(json.loads, lines_of(home/'killed'))]
    assert len(set(keys)) == len(keys) == total
    return {**told, 'lines': total, 'photos': len(pictures_in(home/'killed'))}


@pytest.mark.skipif(os.name == 'nt', reason='Windows does not kill like that')
def test_killed_and_resumed(tmp_path):
    "A run that is killed over and over ends like one that was left alone."
    told = kill_again_and_again(tmp_path, kills=6, photos=60, seed=1)
    assert told['kills'] == 6 and told['photos'] == 60, told


def test_killed_at_every_step(samples, tmp_path, monkeypatch):
    "The states between the steps that make a photo, noted before its file is written and before that gets its name, are resumed."
    calm, options, states, write, replace = tmp_path/'calm', {'classes': ['gothic', 'modern'], 'per_class': 2}, [], Path.write_bytes, os.replace

    def note(path, step):
        if Path(path).parent.parent == calm: states.append((step, shutil.copytree(calm, tmp_path/f'state{len(states)}'), Path(path).relative_to(calm)))

    def write_bytes(path, data): return note(path, 'written') or write(path, data)
    def rename(source, target): return note(source, 'named') or replace(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', write_bytes)
        patch.setattr(os, 'replace', rename)
        gather(calm, *places(samples), **options)
    assert [step for step, *_ in states] == ['written', 'named'] * 4
    for step, state, part in states:
        last = len(lines_of(state)[-1]) if lines_of(state) else 0
        unwritten = [(0, 0), (1, 0), (last // 2, 0), (last, 0), (last, 500)]  # bytes of the line and of the photo that have not been written yet
        for line, photo in unwritten if step == 'named' else unwritten[:1]:
            copy = shutil.copytree(state, tmp_path/'copy')
            for path, missing in (copy/'manifest.jsonl', line), (copy/part, photo):
                if missing: os.truncate(path, path.stat().st_size - missing)
            gather(copy, *places(samples), **options)
            check_same(copy, calm)
            assert len(lines_of(copy)) == len(read_manifest(copy))
            shutil.rmtree(copy)


@pytest.mark.parametrize('step', ['photo', 'line', 'name', 'credits'])
def test_a_full_disk(samples, tmp_path, folder, monkeypatch, step):
    "It ends the run, and costs nothing that was finished."
    options, count, full = {'per_class': 6}, Counter(), OSError(28, 'No space left on device')
    write, replace, settle = Path.write_bytes, os.replace, Manifest.settle

    def write_bytes(path, data):
        count['photo'] += 1
        if count['photo'] < 4 or step != 'photo': return write(path, data)
        write(path, data[:100])
        raise full

    def settle_line(manifest, record, data=b''):
        count['line'] += 1
        if count['line'] < 4 or step != 'line': return settle(manifest, record, data)
        os.write(manifest.file.fileno(), json.dumps(record).encode()[:100])
        raise full

    def rename(source, target):
        count['name'] += 1
        if count['name'] >= 4 and step == 'name' or str(target).endswith('CREDITS.md') and step == 'credits': raise full
        replace(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', write_bytes)
        patch.setattr(Manifest, 'settle', settle_line)
        patch.setattr(os, 'replace', rename)
        with pytest.raises(OSError, match='No space left'): gather(folder, *places(samples), **options)
    gather(folder, *places(samples), **options)
    gather(tmp_path/'calm', *places(samples), **options)
    check_same(folder, tmp_path/'calm')


# Troubles of the web

KINDS = {
    'good': 'saved', 'latency': 'saved', 'wrong-type': 'saved', 'gzip': 'saved', 'redirect': 'saved', 'redirect?hops=5': 'saved', '503?after=1': 'saved',
    'redirect?hops=6': 'too many redirects', 'redirect-loop': 'too many redirects', 'redirect-private': 'forbidden address',
    'redirect-private6': 'forbidden address', 'redirect-file': 'bad address', 'redirect-ftp': 'bad address',
    '403': 'forbidden', '401': 'forbidden', '451': 'forbidden', '404': 'not found', '410': 'not found', '429': 'rate limited', '500': 'server error',
    '503': 'server error', '418': 'bad answer', 'gzip?encoding=br': 'bad answer', 'truncated': 'broken', 'reset': 'broken', 'hang-up': 'broken',
    'malformed': 'broken', 'endless': 'too large', 'gzip-bomb': 'too large', 'huge': 'too large', 'picture-bomb': 'too large', 'small': 'too small',
    'html': 'not an image', 'text': 'not an image', 'empty': 'empty',
    'stuck': 'time-out', 'drip': 'time-out', 'drip-headers': 'time-out',
}
SLOW = [kind for kind, end in KINDS.items() if end == 'time-out']
ELSEWHERE = {
    'http://10.1.2.3/photo.jpg': 'forbidden address', 'http://169.254.169.254/latest/meta-data/': 'forbidden address',
    'http://[::1]/a.jpg': 'forbidden address', 'http://2130706433/a.jpg': 'forbidden address',
    'http://user:secret@127.0.0.1/a.jpg': 'bad address', 'http://127.0.0.1:99999/a.jpg': 'bad address', 'http://127.0.0.1:9/a.jpg': 'unreachable',
}
WHY = {**KINDS, **ELSEWHERE}


def troubles(web, kind, count):
    "Addresses of a kind, such as 'redirect?hops=5', each with a picture of its own."
    name, mark, options = kind.partition('?')
    return [web.trouble(name, f'victorian/{options}{number}') + mark + options for number in range(count)]


@pytest.fixture(scope='module')
def troubled(tmp_path_factory):
    "All troubles, two of each, into one folder: that, the addresses of each kind, what it gave, and how long the silent hosts took."
    home = tmp_path_factory.mktemp('troubled')
    with ExitStack() as stack:
        webs = {kind: stack.enter_context(ImageWeb()) for kind in ['', *SLOW]}  # a host that is stuck is not asked again, so each has its own
        kinds = {kind: troubles(webs.get(kind, webs['']), kind, 2) for kind in KINDS} | {url: [url] for url in ELSEWHERE}
        lists = [write_addresses(home/name, [(url, 'victorian') for kind, urls in kinds.items() if (kind in SLOW) == slow for url in urls])
                 for name, slow in {'slow.csv': True, 'others.csv': False}.items()]
        picture_bomb(), zeros()  # they take a moment to make
        start = time.monotonic()
        collect(home/'photos', sources=lists[:1], web=quick(read=.5, total=1.5))
        seconds = time.monotonic() - start
        yield home/'photos', kinds, collect(home/'photos', sources=lists[1:], web=quick()), seconds


@pytest.mark.parametrize('kind', [*KINDS, *ELSEWHERE])
def test_each_trouble_has_its_reason(troubled, kind):
    folder, kinds, *_ = troubled
    end = ('saved', '') if WHY[kind] == 'saved' else (REASONS[WHY[kind]][0], WHY[kind])
    found = ends(folder)
    assert [found[url] for url in kinds[kind]] == [end] * len(kinds[kind])


def test_all_troubles_together(troubled):
    "What is good is saved and whole, the report adds up, and nobody is waited for longer than agreed."
    folder, kinds, collection, seconds = troubled
    good = sum(len(urls) for kind, urls in kinds.items() if WHY[kind] == 'saved')
    assert len(pictures_in(folder)) == good == collection.counts().saved.sum()
    for path in pictures_in(folder): opened(path)
    assert collection.counts().found.sum() == sum(map(len, kinds.values())) == collection.counts().drop(columns='found').sum().sum()
    assert seconds < 2 + 1.5 * 2 * len(SLOW) / 4  # at least four at a time
    credits = (folder/'CREDITS.md').read_text()
    assert credits.count('](victorian/') == good and str(collection).startswith('In all runs\nvictorian: ')


@pytest.mark.skipif(not LINUX, reason='needs /proc')
def test_memory(tmp_path):
    "Bombs and floods, sixteen at a time, do not fill the memory."
    with ImageWeb() as web:
        kinds = 'endless', 'gzip-bomb', 'huge', 'picture-bomb', 'good', 'html', 'truncated'
        source = write_addresses(tmp_path/'list.csv', [(web.trouble(kind, f'{kind}{i}'), 'gothic') for i in range(12) for kind in kinds])
        output = finish(start(tmp_path/'photos', sources=[str(source)], web={'per_host': 16}))
    assert Counter(ends(tmp_path/'photos').values())['rejected', 'too large'] == 48
    assert len(pictures_in(tmp_path/'photos')) == 12
    assert int(output) < 300_000, output  # kB


# Again

def pictures_asked(web): return [unquote(target).rpartition('/')[2].rpartition('px-')[2] for target in web.requests if target.startswith('/pictures/')]


def settled_pictures(folder): return {unquote(record['url']).rpartition('/')[2] for record in read_manifest(folder)}


def test_nothing_to_do(samples, folder):
    "A full folder is not worth a single question."
    gather(folder, *places(samples), classes=['gothic', 'modern'], per_class=6)
    before = left_by(folder)
    forget(samples)
    again = gather(folder, *places(samples), classes=['gothic', 'modern'], per_class=6)
    assert (samples.requests, left_by(folder), again.visits, again.missing) == ([], before, [], {'gothic': 0, 'modern': 0})
    assert 'nothing to do' in str(again)


def test_what_a_kill_left_lying_about_is_removed(samples, folder):
    "A photo that nobody promised, of a hit that is not wanted any more, does not stay for ever."
    gather(folder, *places(samples), per_class=2)
    before = left_by(folder)
    (folder/'gothic'/'.half-a-photo.jpg.part').write_bytes(b'half')
    gather(folder, *places(samples), per_class=2)
    assert left_by(folder) == before


def test_topping_up_gets_what_is_missing(samples, folder):
    gather(folder, *places(samples), classes=['gothic', 'modern'], per_class=6)
    photos, settled = left_by(folder)[0], settled_pictures(folder)
    forget(samples)
    more = gather(folder, *places(samples), classes=['gothic', 'modern'], per_class=8)
    assert more.counts().saved.tolist() == [8, 8] and not set(pictures_asked(samples)) & settled
    assert all((folder/name).read_bytes() == content for name, content in photos.items() if name != 'CREDITS.md')
    new = settled_pictures(folder) - settled
    assert len(set(pictures_asked(samples)) - new) <= 2 * 4  # at most four a class were under way when there was enough
    assert len(lines_of(folder)) == len(read_manifest(folder))


def test_dry_sources_are_asked_for_pages_only(samples, folder):
    "Everything is settled, and the folder is still not full: the search is repeated, and no picture asked for."
    gather(folder, *places(samples))
    forget(samples)
    again = gather(folder, *places(samples))
    assert pictures_asked(samples) == [] and samples.requests
    assert [(visit.hits, visit.reason) for visit in again.visits] == [(0, 'no more results')] * 2
    assert again.missing == {'gothic': 100 - len(pictures_in(folder))}


def test_photos_thrown_out_stay_out(samples, folder):
    gather(folder, *places(samples), per_class=8)
    thrown_out = pictures_in(folder)[::3]
    for path in thrown_out: path.unlink()
    again = gather(folder, *places(samples), per_class=8)
    assert len(pictures_in(folder)) == 8 and not set(thrown_out) & set(pictures_in(folder)) and again.missing == {'gothic': 0}
    credits = (folder/'CREDITS.md').read_text()
    assert all((path.name in credits) == path.exists() for path in [*thrown_out, *pictures_in(folder)])


@pytest.mark.parametrize('change', [lambda image: image, ImageOps.mirror], ids=['same', 'mirrored'])
def test_photos_thrown_out_do_not_come_back_from_elsewhere(files, folder, change):
    gather(folder, Shelf([hit(files.put('a', picture(1)))]))
    pictures_in(folder)[0].unlink()
    gather(folder, Shelf([hit(files.put('b', picture(1, quality=50, change=change))), hit(files.put('c', picture(2)))]))
    assert list(ends(folder).values()) == [('saved', ''), ('duplicate', 'near copy'), ('saved', '')]
    assert len(pictures_in(folder)) == 1


def test_a_photo_that_was_moved_to_another_class(files, folder):
    "It stays there with its credit, counts there, and its copies are known by either class."
    hits = [hit(files.put(str(seed), picture(seed))) for seed in range(3)]
    gather(folder, Shelf(hits[:2]))
    moved = folder/'modern'/pictures_in(folder)[0].name
    moved.parent.mkdir()
    pictures_in(folder)[0].rename(moved)
    copies = [hit(files.put(f'again{seed}', picture(seed, quality=50))) for seed in range(2)]
    again = gather(folder, Shelf(hits), Shelf(hits + copies, name='other'), classes={'gothic': 'a house', 'modern': 'a house'}, per_class=2)
    assert again.missing == {'gothic': 0, 'modern': 1} and moved.exists() and f'](modern/{moved.name}): ' in (folder/'CREDITS.md').read_text()
    assert Counter(files.asked()) == dict.fromkeys(['0', '1', '2', 'again0', 'again1'], 1)
    found = {(record['label'], urlsplit(record['url']).path.rpartition('/')[2]): record['reason'] for record in read_manifest(folder)}
    assert sorted(found['modern', f'again{seed}'] for seed in range(2)) == ['copy in another class', 'near copy']


def test_photos_of_ones_own_count(files, folder):
    "And what the web has of them is a copy."
    (folder/'gothic').mkdir(parents=True)
    (folder/'gothic'/'mine.png').write_bytes(picture(1, format='PNG'))
    shelf = Shelf([hit(files.put('a', picture(1, quality=60))), hit(files.put('b', picture(2))), hit(files.put('c', picture(3)))])
    assert gather(folder, shelf, per_class=1).visits == []
    gather(folder, shelf, per_class=2)
    assert [(record['status'], record['path'].split('-')[0]) for record in read_manifest(folder)] == [('duplicate', 'gothic/mine.png'), ('saved', 'gothic/a')]
    assert len(pictures_in(folder)) == 2 and 'mine' not in (folder/'CREDITS.md').read_text()


def test_what_is_no_photo_does_no_harm(files, folder):
    "Hidden files and notes do not count, files that are no pictures in spite of their names are passed over."
    (folder/'gothic').mkdir(parents=True)
    for name in '.DS_Store', 'notes.txt', 'page.jpg': (folder/'gothic'/name).write_text('not a picture')
    (folder/'readme.txt').write_text('')
    gather(folder, Shelf([hit(files.put(str(seed), picture(seed))) for seed in range(4)]), per_class=3)
    assert len(pictures_in(folder)) == 3 and len(read_manifest(folder)) == 2 and (folder/'gothic'/'notes.txt').exists()


def test_retry_tries_what_may_have_passed(files, folder, tmp_path):
    "And nothing else; without it, nothing at all."
    urls = {kind: files.trouble(kind, f'gothic/{kind}') for kind in ('503', 'truncated', '404', 'html', 'redirect-loop', 'small', 'good')}
    dead = files.put('later', ('', 'text/plain', 500, {}))
    source = write_addresses(tmp_path/'list.csv', [(url, 'gothic') for url in (*urls.values(), dead)])
    gather(folder, source)
    failed = {url for url, (status, reason) in ends(folder).items() if reason in PASSING}
    assert failed == {urls['503'], urls['truncated'], dead}
    forget(files)
    gather(folder, source)
    assert files.requests == []
    files.put('later', picture(7))
    gather(folder, source, retry=True)
    assert {files.address + target for target in files.requests} == failed
    assert ends(folder)[dead] == ('saved', '') and len(read_manifest(folder)) == len(urls) + 1 == len(lines_of(folder)) - 3
    forget(files)
    gather(folder, source, retry=True)
    assert {files.address + target for target in files.requests} == failed - {dead}


def test_retry_after_the_network_was_gone(tmp_path, folder):
    "All that a dead host had is tried again, and arrives, once it is back."
    with FileWeb() as web: urls, port = [web.put(str(seed), picture(seed)) for seed in range(6)], web.server.server_address[1]
    gather(folder, Shelf(list(map(hit, urls))))
    assert set(ends(folder).values()) == {('failed', 'unreachable')}
    with FileWeb(port=port) as web:
        for seed in range(6): web.put(str(seed), picture(seed))
        gather(folder, Shelf(list(map(hit, urls))), retry=True)
    assert set(ends(folder).values()) == {('saved', '')}


def test_a_host_that_is_allowed_later(files, folder):
    "What was refused is asked for as soon as its host is allowed, and not again and again before."
    shelf, classes = Shelf([hit(files.put(str(seed), picture(seed))) for seed in range(2)]), {'gothic': 'a house', 'modern': 'a house'}
    for _ in range(2): gather(folder, shelf, classes=classes, web=quick(allow=['127.0.0.2']))
    assert set(ends(folder).values()) == {('rejected', 'forbidden address')} and len(lines_of(folder)) == 4 and not files.requests
    gather(folder, shelf, classes=classes)
    assert [record['reason'] for record in read_manifest(folder)] == ['', '', 'copy in another class', 'copy in another class']


STATED = {'CC0': 'pdm', 'CC BY-SA 4.0': 'by-sa', 'CC BY-NC 4.0': 'by-nc', 'All rights reserved': 'other', '': 'unknown'}
LOOSER = {'commercial': 2, 'free': 3, 'known': 4, 'any': 5}  # how many of these pass


def test_a_looser_gate_looks_again_at_licences(files, folder):
    "At those photos that were turned away for their licence, and at nothing else."
    hits = [hit(files.put(f'{number}', picture(number)), license=name) for number, name in enumerate(STATED)]
    shelf = Shelf([*hits, hit(files.trouble('404')), hit(files.trouble('html'))])
    for gate, count in LOOSER.items():
        forget(files)
        gather(folder, shelf, license=gate)
        assert [record['status'] == 'saved' for record in read_manifest(folder)[:5]] == [number < count for number in range(5)]
        assert len(files.requests) == (4 if gate == 'commercial' else 1)
        before = lines_of(folder)
        gather(folder, shelf, license=gate)
        assert lines_of(folder) == before
    reasons = {gate: gather(folder.with_name(gate), shelf, license=gate) and ends(folder.with_name(gate)) for gate in ('commercial', 'known')}
    assert [reason for _, reason in reasons['commercial'].values()] == ['', '', *['licence not admitted'] * 2, 'licence unknown', 'not found', 'not an image']
    assert Counter(reason for _, reason in reasons['known'].values())['licence unknown'] == 1


def test_a_stricter_gate_keeps_what_is_there(files, folder):
    shelf = Shelf([hit(files.put(f'{number}', picture(number)), license=name) for number, name in enumerate(STATED)])
    gather(folder, shelf, license='any')
    before = left_by(folder), lines_of(folder)
    with pytest.warns(UserWarning, match="3 of 5 photos came in under a looser licence gate and would not pass 'commercial'"): gather(folder, shelf, license='commercial')
    assert (left_by(folder), lines_of(folder)) == before


# Two at once

def test_one_run_at_a_time(files, folder):
    "The second stops at once and touches nothing; the first, killed, leaves no lock behind."
    urls = [files.put(str(seed), picture(seed)) for seed in range(20)]
    source = write_addresses(folder.with_name('list.csv'), [(url, 'gothic') for url in urls])
    files.pause = .2
    first = start(folder, sources=[str(source)], per_class=15)
    while not lines_of(folder) and first.poll() is None: time.sleep(.01)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match='another run is collecting into this folder') as raised: gather(folder, source)
    assert time.monotonic() - begun < 10 and first.poll() is None and str(folder) in str(raised.value)
    first.kill()
    first.communicate()
    files.pause = 0
    assert gather(folder, source, per_class=15).missing == {'gothic': 0}
    with lock_folder(folder): pass


# Copies

def test_copies_in_a_class(files, folder):
    hits = [hit(files.put(name, data)) for name, data in {
        'first': picture(1), 'again': picture(1), 'recompressed': picture(1, quality=40), 'mirrored': picture(1, change=ImageOps.mirror),
        'as-png': picture(1, format='PNG'), 'smaller': picture(1, change=lambda image: image.resize((160, 120))), 'other': picture(2)}.items()]
    gather(folder, Shelf(hits[:3], [hits[0]]))
    gather(folder, Shelf(hits))  # a new run knows the pictures from the folder
    records = read_manifest(folder)
    assert [record['reason'] for record in records] == ['', 'exact copy', *['near copy'] * 4, '']
    assert {record['path'] for record in records[:6]} == {records[0]['path']} == {'gothic/' + photo_name('A house', make_photo(picture(1)).data)}
    assert [bool(record['sha256']) for record in records] == [True, *[False] * 5, True] and len(pictures_in(folder)) == 2


def test_copies_across_classes(files, folder):
    "The first class that asks for a photo gets it; its address is not asked for a second time."
    same, mirrored, dead = hit(files.put('same', picture(1))), hit(files.put('mirrored', picture(1, change=ImageOps.mirror))), hit(files.trouble('404'))
    gather(folder, Shelf([same, dead]))
    gather(folder, Shelf([same, dead, mirrored]), classes=['gothic', 'modern'])
    records = {(record['label'], urlsplit(record['url']).path.rpartition('/')[2]): record for record in read_manifest(folder)}
    path = records['gothic', 'same']['path']
    assert {key: (record['reason'], record['path']) for key, record in records.items()} == {
        ('gothic', 'same'): ('', path), ('gothic', '1'): ('not found', ''), ('gothic', 'mirrored'): ('near copy', path),
        ('modern', 'same'): ('copy in another class', path), ('modern', '1'): ('not found', ''), ('modern', 'mirrored'): ('copy in another class', path)}
    assert max(files.asked().values()) == 1 and count_outcomes(folder).duplicates.to_dict() == {'gothic': 1, 'modern': 2}


def test_the_same_original_is_named_after_a_pause(files, folder):
    "Where a picture is a copy of two, it is called a copy of the one that came first, whatever their names are."
    image = draw_facade('gothic', seed=0).resize((320, 240))
    boxes = {'left': (16, 0, 320, 240), 'right': (0, 0, 304, 240), 'whole': (0, 0, 320, 240)}
    cuts = {name: encode(image.crop(box).resize((320, 240))) for name, box in boxes.items()}
    hits = [hit(files.put(name, data), title=title) for (name, data), title in zip(cuts.items(), ('Z', 'A', 'B'))]
    gather(folder, Shelf(hits))
    assert [record['path'][:8] for record in read_manifest(folder)] == ['gothic/z', 'gothic/a', 'gothic/z']  # the cuts are too different from each other
    gather(folder.with_name('paused'), Shelf(hits[:2]))
    gather(folder.with_name('paused'), Shelf(hits))
    check_same(folder.with_name('paused'), folder)


# Sources

TOO_MANY = json.dumps({'detail': 'Too many requests.'}), 'text/plain', 429, {'Retry-After': '3600'}
OUT_OF_ORDER = {'rate limited': TOO_MANY, 'down': ('', 'text/plain', 500, {}), 'changed': ({'photos': []}, 'application/json', 200, {})}


@contextmanager
def out_of_order(how):
    "The address of a Commons that cannot go on, under a name of its own so that a break it asks for holds for nobody else."
    with FileWeb() as web:
        web.put('api', OUT_OF_ORDER.get(how, OUT_OF_ORDER['down']))
        address = f'{web.address}/files/api' if how in OUT_OF_ORDER else 'http://127.0.0.1:9/api'
        yield address.replace('127.0.0.1', 'localhost'), web


@pytest.mark.parametrize('how', [*OUT_OF_ORDER, 'refused'])
def test_the_next_source_is_asked(samples, folder, how):
    with out_of_order(how) as (address, web):
        collection = gather(folder, f'commons={address}', f'openverse={samples.openverse}', classes=['gothic', 'modern'], per_class=4)
    visits = [(visit.label, visit.source, visit.saved, visit.reason.split(' (')[0], visit.stopped) for visit in collection.visits]
    reason = f"commons {SEARCH_REASONS['down' if how == 'refused' else how]}"
    assert visits == [('gothic', 'commons', 0, reason, True), ('gothic', 'openverse', 4, 'had enough', False),
                      ('modern', 'commons', 0, 'not asked, as it had stopped before', True), ('modern', 'openverse', 4, 'had enough', False)]
    assert collection.missing == {'gothic': 0, 'modern': 0} and f'0 of 0 hits from commons saved, {reason} (' in str(collection)
    assert len(web.requests) <= {'rate limited': 1, 'changed': 1, 'down': 3, 'refused': 0}[how]  # a fault is worth three attempts, for one class


def test_a_source_that_stops_in_the_middle(samples, folder):
    "What it gave before is kept, and the next one does the rest."
    class Stopping(Commons):
        def pages(self, phrase, label):
            yield next(super().pages(phrase, label))[:4]
            yield next(Commons(self.web, 'http://127.0.0.1:9/api').pages(phrase, label))
    web = quick()
    collection = gather(folder, Stopping(web, samples.commons), Openverse(web, samples.openverse), per_class=8, web=web)
    first, second = collection.visits
    assert first.stopped and 0 < first.saved <= first.hits == 4 and first.saved + second.saved == 8 and collection.missing == {'gothic': 0}


def test_mirrors_of_a_source(samples, folder):
    "Two of the same kind: one that is down does not take the other with it."
    with out_of_order('refused') as (address, _):
        collection = gather(folder, f'commons={address}', f'commons={samples.commons}', classes=['gothic', 'modern'], per_class=4)
    assert collection.missing == {'gothic': 0, 'modern': 0}


def test_no_source_works(folder):
    "Nothing is raised; the report says why there is nothing."
    with out_of_order('down') as (address, _): collection = gather(folder, f'commons={address}', 'commons=http://127.0.0.1:9/', per_class=3)
    assert collection.missing == {'gothic': 3} and str(collection).count(SEARCH_REASONS['down']) == 2 and 'gothic: 0 found, 0 saved' in str(collection)
    assert read_manifest(folder) == [] and (folder/'CREDITS.md').exists()


def test_classes_and_phrases_in_turn(files, folder):
    "Class by class, source by source, and a page of each phrase in turn."
    def page(*names): return [hit(files.put(name, picture(name))) for name in names]
    books = lambda name: {phrase: [page(f'{name}{phrase}0', f'{name}{phrase}1'), page(f'{name}{phrase}2', f'{name}{phrase}3')]
                          for phrase in ('town hall', 'cathedral', 'villa')}
    sources = [Shelf(name=name, books=books(name)) for name in 'xy']
    gather(folder, *sources, classes={'gothic': ['town hall', 'cathedral'], 'modern': 'villa'}, per_class=10)
    assert sources[0].asked == [('gothic', 'town hall', 0), ('gothic', 'cathedral', 0), ('gothic', 'town hall', 1), ('gothic', 'cathedral', 1),
                                ('modern', 'villa', 0), ('modern', 'villa', 1)]
    assert sources[1].asked[0] == ('gothic', 'town hall', 0) and sources[1].asked[-1] == ('modern', 'villa', 1)
    settled = [(record['label'], unquote(record['url']).rpartition('/')[2]) for record in read_manifest(folder)]
    first = [f'x{phrase}{i}' for number in (0, 2) for phrase in ('town hall', 'cathedral') for i in (number, number + 1)]
    assert settled[:10] == [('gothic', name) for name in [*first, 'ytown hall0', 'ytown hall1']]


def test_pages_are_drawn_when_they_are_needed(files, folder):
    shelf = Shelf(*[[hit(files.put(f'{page}-{i}', picture(f'{page}-{i}'))) for i in range(5)] for page in range(9)])
    gather(folder, shelf, per_class=4)
    assert len(shelf.asked) <= 2 and len(files.requests) <= 8


def test_a_page_without_a_licence_ends_the_visit(files, folder):
    "As that source hardly ever states one; a single admissible licence on a page keeps it going."
    good = [hit(files.put(str(seed), picture(seed))) for seed in range(2)]
    bare = [[hit(f'http://127.0.0.1:9/{page}/{i}', license='') for i in range(5)] for page in range(3)]
    shelf, other = Shelf([*bare[0], good[0]], bare[1], bare[2]), Shelf([good[1]], name='other')
    collection = gather(folder, shelf, other)
    assert [(visit.source, visit.hits, visit.saved, visit.reason) for visit in collection.visits] == [
        ('shelf', 11, 1, "no licence that 'free' admits"), ('other', 1, 1, 'no more results')]
    assert len(shelf.asked) == 2 and Counter(ends(folder).values())['rejected', 'licence unknown'] == 10


def test_empty_pages_do_not_end_the_visit(files, folder):
    assert gather(folder, Shelf([], [], [hit(files.put('a', picture(1)))]), per_class=1).missing == {'gothic': 0}


def test_a_manifest_as_a_source(samples, tmp_path):
    "Whoever has only the manifest gets the same photos, with the same credits."
    gather(tmp_path/'mine', *places(samples), classes=['gothic', 'modern'], per_class=5)
    collect(tmp_path/'yours', sources=[tmp_path/'mine'/'manifest.jsonl'], web=quick())
    mine, yours = (left_by(tmp_path/name)[0] for name in ('mine', 'yours'))
    assert mine == yours and len(mine) == 11


# Damaged manifests

def line_for(number, label='gothic', path=None, **changes):
    "A line as `collect` writes it."
    photo = Photo(b'%d' % number, 300, 200, np.full(50, number, np.uint64))
    outcome = Outcome(photo=photo, path=path or f'{label}/{photo_name("Ä house", photo.data)}') if number % 3 else Outcome('not found', 'status 404')
    found = hit(f'https://example.org/{number}.jpg?größe=l', title=f'Haus № {number} 🏛', label=label, creator='Ο Ζωγράφος')
    return json.dumps({**as_record(found, outcome), **changes}).encode() + b'\n'


LINES = [line_for(number) for number in range(8)]
RUBBISH = st.binary(min_size=1, max_size=20) | st.sampled_from([b'\n', b'\r\n', b'{}\n', b'[[', b'null\n', b'\0', b'\xef\xbb\xbf', b'[' * 99999])
SURGERY = st.one_of(*(st.tuples(st.just(how), st.floats(0, 1), what) for how, what in {
    'flip': st.integers(1, 255), 'delete': st.integers(1, 900), 'insert': RUBBISH, 'truncate': st.none()}.items()))


def operate(data, how, where, what):
    place = round(where * len(data))
    if how == 'flip' and place < len(data): return data[:place] + bytes([data[place] ^ what]) + data[place + 1:]
    if how == 'delete': return data[:place] + data[place + what:]
    if how == 'insert': return data[:place] + what + data[place:]
    return data[:place] if how == 'truncate' else data


def read_quietly(folder):
    "The records; there may be a warning about damage, and no other."
    with said() as warned: records = read_manifest(folder)
    assert all(warning.category is UserWarning and 'damaged line' in str(warning.message) for warning in warned)
    return records


def check_damaged(data, lines=()):
    "It can be read, opened, added to and read again, no whole line is lost, and what is written stays in the folder."
    with tempfile.TemporaryDirectory() as home, said():
        folder = Path(home)/'photos'
        folder.mkdir()
        (folder/'manifest.jsonl').write_bytes(data)
        whole = [json.loads(line) for line in dict.fromkeys(data.split(b'\n')[:-1]) if line + b'\n' in lines]
        found = read_quietly(folder)
        assert all(record in found for record in whole)
        fresh = json.loads(line_for(100))
        for _ in range(2):
            manifest = Manifest(folder)
            manifest.settle(fresh, b'photo')
            manifest.close()
        records = read_quietly(folder)
        assert all(record in records for record in [*whole, fresh]) and records.count(fresh) == 1
        Collector(folder, None, 'free', 400, False).manifest.close()
        write_credits(folder)
        assert count_outcomes(folder).found.sum() == len(records)
        assert sorted(os.listdir(home)) == ['photos'] and {*os.listdir(folder)} == {'manifest.jsonl', 'CREDITS.md', 'gothic'}
        assert (folder/fresh['path']).read_bytes() == b'photo'


@settings(max_examples=80)
@given(st.lists(SURGERY, min_size=1, max_size=4))
def test_damaged_manifests(operations):
    data = b''.join(LINES)
    for operation in operations: data = operate(data, *operation)
    check_damaged(data, LINES)


@settings(max_examples=40)
@given(st.binary(max_size=300) | st.lists(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from([*json.loads(LINES[0])]) | st.text(), inner), max_leaves=20).map(lambda value: json.dumps(value).encode()), max_size=5).map(b'\n'.join))
def test_any_bytes_for_a_manifest(data): check_damaged(data)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from([*json.loads(LINES[0])]), st.none() | st.integers() | st.text() | st.sampled_from(
    ['\ud83c', 'gothic/' + 'x' * 300 + '.jpg', 'x' * 5000, 'gothic/\0.jpg', 'saved', 'failed', 'not found', 'e' * 16, '../../etc']), max_size=4))
def test_any_values_in_a_manifest(changes):
    check_damaged(LINES[0] + line_for(1, **changes) + LINES[2], [LINES[0], LINES[2]])


@pytest.mark.parametrize('line', [b'[' * 200_000 + b'\n', line_for(1, path=f"gothic/{'x' * 300}.jpg")], ids=['nested deeply', 'a name too long for a file'])
def test_excessive_lines(line): check_damaged(LINES[0] + line + LINES[2], LINES)


DRIVE = pytest.param('C:/evil.jpg', marks=pytest.mark.skipif(os.name != 'nt', reason='a folder like any other'))
HOSTILE = ['../../evil.jpg', '../evil.jpg', 'gothic/../../evil.jpg', '/evil.jpg', '//evil.jpg', '/tmp/evil.jpg', '..\\..\\evil.jpg', 'gothic\\evil.jpg',
           'C:\\evil.jpg', './.', 'gothic/.', './x.jpg', 'gothic/..', '.git/config', 'gothic/', 'evil.jpg', 'a/b/evil.jpg', '~/../evil.jpg', '',
           'gothic/\0.jpg', DRIVE]


@pytest.mark.parametrize('path', HOSTILE)
def test_paths_that_lead_elsewhere(tmp_path, folder, path):
    "A line with such a path does not count, and nothing is renamed, removed or made on its behalf."
    folder.mkdir()
    (folder/'manifest.jsonl').write_bytes(LINES[0] + json.dumps({**json.loads(LINES[1]), 'path': path}).encode() + b'\n')
    for name in '.evil.jpg.part', '.photos.part', 'evil.jpg', '.x.jpg.part': (tmp_path/name).write_text('not yours')
    (folder/'.evil.jpg.part').write_text('not yours')
    with pytest.warns(UserWarning, match='1 damaged line'): gather(folder, Shelf([]))
    assert {*os.listdir(tmp_path)} == {'photos', '.evil.jpg.part', '.photos.part', 'evil.jpg', '.x.jpg.part'}
    assert {*os.listdir(folder)} == {'manifest.jsonl', 'CREDITS.md', '.lock', '.evil.jpg.part'}
    with pytest.warns(UserWarning): assert len(read_manifest(folder)) == 1
    with said() as warned: str(gather(folder, Shelf([])))
    assert len(warned) == 1  # said once a run


def test_an_edited_manifest(folder):
    "Windows line ends, a byte order mark, blank lines and a missing last line end are no damage to the lines."
    folder.mkdir()
    (folder/'manifest.jsonl').write_bytes(b'\xef\xbb\xbf' + b''.join(LINES).replace(b'\n', b'\r\n').rstrip())
    assert [record['url'] for record in read_manifest(folder)] == [json.loads(line)['url'] for line in LINES]


# Names

SAFE = set('abcdefghijklmnopqrstuvwxyz0123456789-.')
TITLES = st.text() | st.text('ÄÖé/\\.:*?"<>|\0\n\u202e-_ aB1') | st.sampled_from(['CON', '../../etc/passwd', 'a' * 999, '🏛' * 99, '-rf', 'x.jpg'])


@settings(max_examples=200)
@given(TITLES, st.binary(max_size=9))
def test_names_of_photos(title, data):
    name = photo_name(title, data)
    assert set(name) <= SAFE and name[0] not in '-.' and name.endswith('.jpg') and name.count('.') == 1 and len(name) <= 56
    assert name == photo_name(title, data) and photo_name(title, data + b'!') != name


def test_names_can_be_read(): assert photo_name('Église Saint-Étienne (Caen).jpg', b'').startswith('eglise-saint-etienne-caen-jpg-')


# Photos

def exif(orientation=1):
    "A description, a place, and how the camera was held."
    tags = Image.Exif()
    tags[0x010e], tags[0x8825], tags[0x0112] = 'A secret', {1: 'N', 2: (51., 30., 0.)}, orientation
    return tags


def halves(width=600, height=400, mode='RGB'):
    "Left half red, right half blue."
    image = Image.new('RGB', (width, height), 'blue')
    image.paste('red', (0, 0, width // 2, height))
    return image.convert(mode)


@cache
def profile(): return ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def saved_as(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def deep():
    "Sixteen bits: a ramp from black to white."
    return saved_as(Image.fromarray(np.linspace(0, 65535, 600 * 400).reshape(400, 600).astype(np.uint16)), 'PNG')


def clear():
    "Red on the left, nothing at all on the right."
    image = halves(mode='RGBA')
    image.paste((0, 0, 0, 0), (300, 0, 600, 400))
    return image


WHITE, RED, BLUE = (255, 255, 255), (254, 0, 0), (0, 0, 254)
DEVELOPED = {  # the bytes, the size that is saved, and the colours on the left, right and top
    'jpeg': (lambda: saved_as(halves(), 'JPEG', quality=95), (400, 267), RED, BLUE),
    'secrets': (lambda: saved_as(halves(), 'JPEG', quality=95, exif=exif(), icc_profile=profile(), comment=b'A secret'), (400, 267), RED, BLUE),
    'held sideways': (lambda: saved_as(halves(400, 600).transpose(Image.Transpose.ROTATE_90), 'JPEG', quality=95, exif=exif(6)), (267, 400), RED, BLUE),
    'cmyk': (lambda: saved_as(halves(mode='CMYK'), 'JPEG', quality=95), (400, 267), RED, BLUE),
    'transparent png': (lambda: saved_as(clear(), 'PNG'), (400, 267), RED, WHITE),
    'png with secrets': (lambda: saved_as(halves(), 'PNG', exif=exif(), icc_profile=profile()), (400, 267), RED, BLUE),
    'palette': (lambda: saved_as(halves().quantize(4), 'PNG'), (400, 267), RED, BLUE),
    'webp': (lambda: saved_as(halves(), 'WEBP', lossless=True, exif=exif(), icc_profile=profile()), (400, 267), RED, BLUE),
    'gif': (lambda: saved_as(halves(), 'GIF', save_all=True, append_images=[Image.new('RGB', (600, 400))], comment='A secret'), (400, 267), RED, BLUE),
    'tiff': (lambda: saved_as(halves(), 'TIFF'), (400, 267), RED, BLUE),
    'sixteen bits': (deep, (400, 267), None, None),
    'grey': (lambda: saved_as(halves(mode='L'), 'JPEG'), (400, 267), (76,) * 3, (29,) * 3),
    'small': (lambda: saved_as(halves(150, 120), 'JPEG', quality=95), (150, 120), RED, BLUE),
    'exactly': (lambda: saved_as(halves(400, 300), 'JPEG', quality=95), (400, 300), RED, BLUE),
    'smallest': (lambda: saved_as(halves(SMALLEST, SMALLEST), 'JPEG', quality=95), (100, 100), RED, BLUE),
    'wide': (lambda: saved_as(halves(4000, 200), 'JPEG', quality=95), (400, 20), RED, BLUE),
    'large': (lambda: saved_as(halves(6000, 4000), 'JPEG', quality=95), (400, 267), RED, BLUE),
}


@pytest.mark.parametrize('name', DEVELOPED)
def test_photos_are_developed(files, folder, name):
    "Upright, RGB, no larger than asked for, never enlarged, and without a word about anything else."
    make, size, left, right = DEVELOPED[name]
    gather(folder, Shelf([hit(files.put('a', make()))]))
    path, = pictures_in(folder)
    record, = read_manifest(folder)
    data, image = path.read_bytes(), opened(path)
    assert (image.format, image.mode, image.size, (record['width'], record['height'])) == ('JPEG', 'RGB', size, size)
    assert set(image.info) <= {'jfif', 'jfif_version', 'jfif_unit', 'jfif_density'} and not image.getexif()
    assert b'secret' not in data and b'Exif' not in data
    if left:
        seen = [image.getpixel((round(x * image.width), image.height // 2)) for x in (.1, .9)]
        assert np.abs(np.subtract(seen, [left, right])).max() <= 6, seen
    else: assert [image.getpixel((200, y))[0] for y in (0, 133, 266)] == pytest.approx([0, 128, 255], abs=4)


@pytest.mark.parametrize('size', [32, 99, 250, 1000])
def test_sizes(files, folder, size):
    gather(folder, Shelf([hit(files.put('a', saved_as(halves(900, 600), 'JPEG')))]), size=size)
    record, = read_manifest(folder)
    assert (record['reason'], record['width']) == ('', min(size, 900))


def test_icons_are_too_small(files, folder):
    gather(folder, Shelf([hit(files.put('a', saved_as(halves(SMALLEST - 1, 600), 'PNG')))]))
    assert list(ends(folder).values()) == [('rejected', 'too small')]


LARGE, MIDDLE, SMALL = (saved_as(draw_facade('gothic', seed=1).resize(size), 'JPEG') for size in ((900, 600), (450, 300), (240, 160)))
DEAD, REFUSED, PAGE = ('', 'text/plain', 404, {}), ('', 'text/plain', 429, {}), b'<html>Sorry</html>'
THUMBNAILS = {  # the thumbnail, the original, how wide the source says that it is; how wide the photo is in the end, which of the two were asked
    'large enough': (MIDDLE, LARGE, 900, 400, 't'), 'too small': (SMALL, LARGE, 900, 400, 'to'), 'nobody says how large': (MIDDLE, LARGE, 0, 400, 't'),
    'too small, nobody says': (SMALL, LARGE, 0, 400, 'to'), 'a page': (PAGE, LARGE, 900, 400, 'to'), 'dead': (DEAD, LARGE, 900, 400, 'to'),
    'none': (None, LARGE, 900, 400, 'o'), 'empty': (b'', LARGE, 900, 400, 'to'), 'cut off': (MIDDLE[:3000], LARGE, 900, 400, 'to'),
    'an icon': (saved_as(halves(90, 60), 'JPEG'), LARGE, 900, 400, 'to'),
    'original dead': (SMALL, DEAD, 900, 240, 'to'), 'original a page': (SMALL, PAGE, 900, 240, 'to'), 'original refused': (SMALL, REFUSED, 900, 240, 'to'),
    'original small anyway': (MIDDLE, SMALL, 240, 240, 'o'), 'refused': (REFUSED, LARGE, 900, 'rate limited', 't'),
    'both dead': (DEAD, DEAD, 900, 'not found', 'to'), 'both pages': (PAGE, PAGE, 900, 'not an image', 'to'),
    'dead, original a page': (DEAD, PAGE, 900, 'not an image', 'to'),
}


@pytest.mark.parametrize('case', THUMBNAILS)
def test_thumbnails(files, folder, case):
    "An original is asked for only when the thumbnail will not do; a small thumbnail is better than nothing."
    thumbnail, original, width, end, asked = THUMBNAILS[case]
    small = files.put('thumbnail', thumbnail) if thumbnail is not None else ''
    gather(folder, Shelf([hit(files.put('original', original), thumbnail=small, width=width, height=width * 2 // 3)]))
    record, = read_manifest(folder)
    assert (record['reason'] or record['width']) == end
    assert {name[0] for name in files.asked()} == set(asked)


# What is asked for

WRONG = {
    'a licence': (dict(license='gratis'), "license 'gratis': expected one of any, known, free, commercial"),
    'a source': (dict(sources=['commons', 'google']), "source 'google': expected commons, openverse, duckduckgo, or the path"),
    'one source': (dict(sources='commons'), "sources is 'commons': expected a list such as ['commons', 'openverse']"),
    'one class': (dict(classes='gothic'), 'a single string'),
    'a label': (dict(classes=['../gothic']), 'cannot name a folder'),
    'no phrase': (dict(classes={'gothic': []}), 'empty search phrase'),
    'no class': (dict(classes=[]), 'classes is []: expected at least one'), 'no classes': (dict(classes={}), 'classes is {}: expected at least one'),
    'no photos': (dict(per_class=0), 'per_class is 0: expected at least one'), 'fewer than no photos': (dict(per_class=-1), 'per_class is -1'),
    'a file that is not there': (dict(sources=['missing.csv']), "source 'missing.csv': no such file; expected commons"),
    'a capital letter': (dict(sources=['Commons']), 'did you mean commons?'), 'two in one': (dict(sources=['commons openverse']), 'did you mean commons,openverse?'),
}


@pytest.mark.parametrize('case', WRONG)
def test_wrong_wishes(folder, case):
    "They are said before anything is made."
    options, message = WRONG[case]
    with pytest.raises(ValueError) as raised: collect(folder, **options)
    assert message in str(raised.value) and '\n' not in str(raised.value) and not folder.exists()


@pytest.mark.parametrize('content, message', [
    ('url,label\nhttp://example.org/a.jpg,../x\n', 'cannot name a folder'), ('http://example.org/a.jpg\n', 'says no labels')])
def test_wrong_files_of_addresses(tmp_path, folder, content, message):
    (tmp_path/'list.csv').write_text(content)
    with pytest.raises(ValueError, match=message): collect(folder, sources=[tmp_path/'list.csv'], web=quick())
    assert not folder.exists()


def test_a_label_that_no_file_has(tmp_path, folder):
    (tmp_path/'list.csv').write_text('url,label\nhttp://example.org/a.jpg,gothic\nhttp://example.org/b.jpg,modern\n')
    with pytest.raises(ValueError, match="list.csv has no label 'gothik'; it has gothic, modern"): collect(folder, ['gothic', 'gothik'], sources=[tmp_path/'list.csv'])
    assert not folder.exists()


@pytest.mark.parametrize('place, message', [('photo.jpg', 'photo.jpg: a file; expected a folder'), ('photo.jpg/photos', 'photo.jpg/photos: cannot be made'),
    pytest.param('/proc/photos', '/proc/photos: cannot be made', marks=pytest.mark.skipif(not LINUX, reason='Linux has such a folder'))])
def test_places_where_no_folder_can_be(fails, tmp_path, place, message):
    (tmp_path/'photo.jpg').write_bytes(picture(1))
    said = fails('collect', '--source', 'commons=http://127.0.0.1:9/', '--out', place, cwd=tmp_path)
    assert message in said and 'Errno' not in said


def test_a_sheet(samples, folder):
    gather(folder, *places(samples), per_class=4)
    assert photo_sheet(folder, 'gothic').size > (100, 90)
    with pytest.raises(ValueError, match="no photo of 'modern'"): photo_sheet(folder, 'modern')


# The command

def arguments(web, *more): return ['collect', '--source', ','.join(places(web)), '--allow-host', '127.0.0.1', '--out', 'photos', *more]


def test_command(run, samples, tmp_path):
    "The report of the library, a sheet for each class, and the licence that was asked for."
    wishes = '--per-class', 5, '--license', 'commercial', '--sheet', 'sheets', '--size', 200, '--classes', 'gothic', 'modern'
    done = run(*arguments(samples, *wishes), cwd=tmp_path)
    assert done.returncode == 0, done
    assert 'gothic: ' in done.stdout and 'In this run' in done.stdout and 'wrote gothic.png, modern.png into sheets' in done.stdout
    assert {path.name for path in (tmp_path/'sheets').iterdir()} == {'gothic.png', 'modern.png'}
    records = [record for record in read_manifest(tmp_path/'photos') if record['status'] == 'saved']
    assert Counter(record['label'] for record in records) == {'gothic': 5, 'modern': 5} and not any('-nc' in record['license'].lower() for record in records)
    assert all(max(opened(path).size) == 200 for path in pictures_in(tmp_path/'photos'))


@pytest.mark.parametrize('name, content', [('classes.json', '{"church": ["byzantine church"], "house": "victorian house"}'),
                                           ('classes.toml', 'church = ["byzantine church"]\nhouse = "victorian house"\n')])
def test_command_with_a_file_of_classes(run, samples, tmp_path, name, content):
    (tmp_path/name).write_text(content)
    done = run(*arguments(samples, '--per-class', 2, '--classes', name), cwd=tmp_path)
    assert done.returncode == 0 and {path.parent.name for path in pictures_in(tmp_path/'photos')} == {'church', 'house'}
    assert {record['query'] for record in read_manifest(tmp_path/'photos')} == {'byzantine church', 'victorian house'}


def test_command_with_a_file_of_addresses(run, tmp_path):
    "A class that stays short is said; one that stays empty makes the exit code 1."
    with ImageWeb() as web:
        write_addresses(tmp_path/'list.csv', [(web.trouble('good', 'gothic/1'), 'gothic'), (web.trouble('404'), 'modern')])
        done = run('collect', '--source', 'list.csv', '--allow-host', '127.0.0.1', '--out', 'photos', '--per-class', 3, cwd=tmp_path)
    assert done.returncode == 1 and len(pictures_in(tmp_path/'photos')) == 1
    said = [line for line in done.stderr.splitlines() if line.startswith('archclf: ')]
    assert [line.split(';')[0] for line in said] == ['archclf: gothic has 1 of 3 photos', 'archclf: modern has 0 of 3 photos']


REMEDIES = {'refused': (['--allow-host', '127.0.0.2'], 'allow it with --allow-host HOST'), '503': ([], 'again with --retry'), '404': ([], 'add search phrases'),
            'no licence': ([], 'choose a wider --license'), 'source': (['--source', 'commons=http://127.0.0.1:9/'], 'run the same command again later')}


@pytest.mark.parametrize('cause', REMEDIES)
def test_command_says_what_may_help(run, tmp_path, cause):
    "What helps a class that stayed short depends on why; and there is no sheet of no photos."
    options, remedy = REMEDIES[cause]
    with ImageWeb() as web:
        urls = [web.trouble(cause if cause.isdigit() else 'good', f'gothic/{number}') for number in range(3)]
        (tmp_path/'list.csv').write_text('url,license\n' + ''.join(f"{url},{'' if cause == 'no licence' else 'CC0'}\n" for url in urls))
        host = [] if '--allow-host' in options else ['--allow-host', '127.0.0.1']
        done = run('collect', 'gothic', '--source', 'list.csv', '--out', 'photos', '--sheet', 'sheets', *host, *options, cwd=tmp_path)
    assert done.returncode == 1 and 'no photos, so no sheets in sheets' in done.stdout
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if 'gothic has 0 of 100 photos' in line and remedy in line]  # and no progress bars


@pytest.mark.parametrize('wrong, message', [
    (['--source', 'google'], "source 'google'"), (['--source', ' , '], "--source ' , ': expected commons"), (['--source', ''], "--source ''"), (['--source', 'broken.csv'], 'broken.csv, line 2'),
    (['--classes', 'a.json', 'b'], 'either names of classes or one file'), (['--classes', 'nowhere.json'], 'nowhere.json'),
    (['--contact', 'me'], "contact 'me'"), (['--out', 'broken.csv'], 'broken.csv: a file; expected a folder'),
    (['--sheet', 'broken.csv'], 'broken.csv: a file; expected a folder'), (['--allow-host', 'http://127.0.0.1:8765/'], 'expected name or name:port')])
def test_command_with_wrong_wishes(fails, tmp_path, wrong, message):
    (tmp_path/'broken.csv').write_text('url,label\nftp://x/a.jpg,b\n')
    assert message in fails('collect', '--source', 'commons=http://127.0.0.1:9/', '--out', 'photos', *wrong, cwd=tmp_path)
    assert os.listdir(tmp_path) == ['broken.csv']


@pytest.mark.parametrize('usage', [['--out', 'photos', '--per-class', '0'], ['--out', 'photos', '--size', '8'], []])
def test_command_with_wrong_usage(run, tmp_path, usage):
    done = run('collect', *usage, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '') and 'Error: ' in done.stderr.splitlines()[-1] and not os.listdir(tmp_path)


def interrupt(command, folder, lines, cwd):
    "Press Ctrl-C when the manifest has so many lines; gives the process, what it said, and the seconds until it was gone."
    process = subprocess.Popen([*COMMAND, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)
    while len(lines_of(folder)) < lines and process.poll() is None: time.sleep(.01)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors, time.monotonic() - start


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signal')
def test_interrupted(run, tmp_path, folder):
    with PacedWeb(per_style=9) as web:
        command = arguments(web, '--per-class', 8, '--classes', 'gothic', 'modern')
        code, output, errors, _ = interrupt(command, folder, 5, tmp_path)
        assert (code, output) == (130, '') and errors.splitlines()[-1] == 'archclf: interrupted; run the same command again to go on where it stopped'
        assert 'Traceback' not in errors
        records, credits = read_manifest(folder), (folder/'CREDITS.md').read_text()
        assert 5 <= len(records) == len(lines_of(folder)) and all(path.name in credits for path in pictures_in(folder))
        assert run(*command, cwd=tmp_path).returncode == 0
        gather(tmp_path/'calm', *places(web), classes=['gothic', 'modern'], per_class=8)
    assert read_manifest(folder)[:len(records)] == records
    check_same(folder, tmp_path/'calm')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signal')
def test_interrupted_while_a_host_says_nothing(tmp_path, folder):
    "Nobody waits for an answer that is not wanted any more."
    with ImageWeb() as web, ImageWeb() as silent:
        urls = [web.trouble('good', f'gothic/{i}') for i in range(5)] + [silent.trouble('stuck', f'{i}') for i in range(3)]
        write_addresses(tmp_path/'list.csv', [(url, 'gothic') for url in urls])
        code, _, errors, seconds = interrupt(['collect', '--source', 'list.csv', '--allow-host', '127.0.0.1', '--out', 'photos'], folder, 5, tmp_path)
    assert code == 130 and 'interrupted' in errors.splitlines()[-1] and 'Traceback' not in errors
    assert seconds < 8


if __name__ == '__main__':
    kills, photos = map(int, sys.argv[1:] or (25, 300))
    with tempfile.TemporaryDirectory() as home:
        os.environ['ARCHCLF_CACHE'] = f'{home}/cache'
        begun = time.monotonic()
        print(kill_again_and_again(Path(home), kills, photos, seed=0), f'{time.monotonic() - begun:.0f} s')
