"""Collecting: photos per second and peak memory of `archclf.collect`, fastai and img2dataset, against the floor.

    python bench/collect.py [PHOTOS] [--count 600] [--rounds 3] [--latency 50] [--img2dataset PYTHON] [--only floor,archclf,fastai,img2dataset]

A web server on loopback (a process of its own, on the same cores) serves COUNT different pictures cut from the full-size photos in
originals/, from a few hundred to a few thousand pixels wide, every answer LATENCY milliseconds late. Each contender, a new process with
its libraries already imported, makes of them a folder of JPEGs with a longest side of 400 pixels:

floor: GETs on the eight kept-alive connections that archclf opens to a host, one decode (draft mode), resize and encode each, nothing else
archclf: `collect` from a file of addresses with its defaults: licences, manifest, copies found, credits
floor, 16 a host; archclf, 16 a host: both without the politeness of eight connections to a host
fastai: `download_images`, `verify_images`, `resize_images` with their defaults
img2dataset: two processes, 16 threads each; in an environment of its own, whose python is given

PHOTOS holds originals/. Memory is what the process and its children have for themselves plus their part of what is shared (PSS, Linux).
"""
import asyncio
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from timing import in_turn, parser, print_machine, print_table, ratio, spread

WINDOWS = (0, 0, 1, 1), (0, 0, .7, .7), (.3, .3, 1, 1), (.3, 0, 1, .7), (0, .3, .7, 1), (.25, .25, .75, .75), (0, 0, .5, .6), (.5, .4, 1, 1), (.5, 0, 1, .6), (0, .4, .5, 1)
WIDTHS = 4000, 2400, 1600, 1200, 2000, 3000, 1000, 1400, 800, 1800  # pixels, at most, of what is cut out through each window
SIZE, QUALITY, CONNECTIONS = 400, 90, 8


def cut(original, number, folder):
    "Ten pictures of the sample: a photo as it is, and nine parts of it, in many sizes."
    from PIL import Image
    (folder/f'{number:03}-0.jpg').write_bytes(original.read_bytes())
    with Image.open(original) as image:
        for part, (window, width) in enumerate(zip(WINDOWS, WIDTHS)):
            left, top, right, bottom = box = [round(edge * side) for edge, side in zip(window, image.size * 2)]
            scale = min(1, width / (right - left))
            small = image.resize((round((right - left) * scale), round((bottom - top) * scale)), Image.Resampling.BILINEAR, box, reducing_gap=1)
            if part: small.save(folder/f'{number:03}-{part}.jpg', quality=92)


def cut_all(originals, count, folder):
    "The names of COUNT pictures, no two of which are copies."
    with ThreadPoolExecutor(os.cpu_count()) as pool: list(pool.map(cut, originals[:-(-count // len(WINDOWS))], range(len(originals)), [folder] * len(originals)))
    return sorted(path.name for path in folder.iterdir())[:count]


async def serve(folder, latency):
    "As little of a web server as will do, so that the cores are left to those who are measured."
    async def answer(reader, writer):
        try:
            while True:
                name = (await reader.readuntil(b'\r\n\r\n')).split(b' ', 2)[1].rpartition(b'/')[2].decode()
                await asyncio.sleep(latency)
                with open(Path(folder)/name, 'rb') as file:
                    length = os.fstat(file.fileno()).st_size
                    writer.write(f'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n'.encode())
                    await asyncio.get_running_loop().sendfile(writer.transport, file)
        except (asyncio.IncompleteReadError, ConnectionError, FileNotFoundError): writer.close()
    server = await asyncio.start_server(answer, '127.0.0.1', 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def floor(urls, out, connections=CONNECTIONS):
    import http.client
    import io
    from urllib.parse import urlsplit
    from PIL import Image
    decoding, connection = threading.BoundedSemaphore(os.cpu_count()), threading.local()

    def fetch(url):
        place = urlsplit(url)
        if not hasattr(connection, 'open'): connection.open = http.client.HTTPConnection(place.netloc)
        connection.open.request('GET', place.path)
        data = connection.open.getresponse().read()
        with decoding:
            image = Image.open(io.BytesIO(data))
            small = tuple(max(1, round(side * SIZE / max(image.size))) for side in image.size)
            image.draft('RGB', small)
            image.resize(small, Image.Resampling.BICUBIC).save(out/Path(place.path).name, quality=QUALITY)
    yield 'ready'
    with ThreadPoolExecutor(connections) as pool: list(pool.map(fetch, urls))


def archclf(urls, out, **limits):
    from archclf.collect import collect
    from archclf.web import Web
    import pandas, tqdm  # noqa: loaded beforehand, like the libraries of the others
    source = out.parent/f'{out.name}.csv'
    with open(source, 'w', newline='') as file: csv.writer(file).writerows([('url', 'label', 'license'), *((url, 'building', 'CC0') for url in urls)])
    yield 'ready'
    collect(out, sources=[source], per_class=len(urls), size=SIZE, web=Web(allow=['127.0.0.1'], **limits))


def fastai(urls, out):
    from fastai.vision.all import download_images, get_image_files, resize_images, verify_images
    yield 'ready'
    download_images(out, urls=urls)
    for path in verify_images(get_image_files(out)): path.unlink()
    resize_images(out, max_size=SIZE, dest=out)


def img2dataset(urls, out):
    from img2dataset import download
    source = out.parent/f'{out.name}.txt'
    source.write_text('\n'.join(urls))
    yield 'ready'
    download(url_list=str(source), output_folder=str(out), image_size=SIZE, resize_mode='keep_ratio_largest', resize_only_if_bigger=True, output_format='files',
             encode_quality=QUALITY, processes_count=2, thread_count=16, number_sample_per_shard=100, disallowed_header_directives=[])


CONTENDERS = {'floor': floor, 'archclf': archclf, 'floor, 16 a host': partial(floor, connections=16), 'archclf, 16 a host': partial(archclf, per_host=16), 'fastai': fastai, 'img2dataset': img2dataset}


def memory(process):
    "Megabytes of a process and its children."
    import psutil
    try: family = [process, *process.children(recursive=True)]
    except psutil.Error: return 0
    total = 0
    for each in family:
        try: total += each.memory_full_info().pss
        except (psutil.Error, AttributeError): pass
    return total / 2**20


def measure(name, python, urls):
    "Photos per second, peak megabytes, and photos of one contender, from when it is ready."
    import psutil
    with tempfile.TemporaryDirectory() as work:
        command = [python, __file__, '--contender', name, '--out', f'{work}/photos']
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(f'{work}/log', 'w'), text=True,
                                   env={**os.environ, 'ARCHCLF_CACHE': f'{work}/cache', 'TQDM_DISABLE': '1', 'NO_ALBUMENTATIONS_UPDATE': '1'})
        process.stdin.write(json.dumps(urls))
        process.stdin.close()
        while (line := process.stdout.readline()) and line != 'ready\n': pass
        start, peak = time.perf_counter(), 0
        while process.poll() is None:
            peak = max(peak, memory(psutil.Process(process.pid)))
            try: process.wait(.2)
            except subprocess.TimeoutExpired: pass
        seconds = time.perf_counter() - start
        saved = len([path for path in Path(work, 'photos').rglob('*.*') if path.suffix.lower() in ('.jpg', '.jpeg') and not path.name.startswith('.')])
        if process.returncode or not saved: raise SystemExit(f"{name} ended with {process.returncode}: {Path(work, 'log').read_text()[-800:]}")
    return len(urls) / seconds, peak, saved


def contend(name, out):
    "The part that is measured, in a process of its own."
    out.mkdir(parents=True)
    running = CONTENDERS[name](json.load(sys.stdin), out)
    print(next(running), flush=True)
    next(running, None)


def main():
    if sys.argv[1:2] == ['--serve']: return asyncio.run(serve(sys.argv[2], float(sys.argv[3])))
    if sys.argv[1:2] == ['--contender']: return contend(sys.argv[2], Path(sys.argv[4]))
    options = parser(__doc__)
    options.add_argument('--count', type=int, default=600)
    options.add_argument('--rounds', type=int, default=3)
    options.add_argument('--latency', type=float, default=50, help='milliseconds')
    options.add_argument('--img2dataset', type=Path, help='the python of an environment with img2dataset')
    options.add_argument('--only', default='floor,archclf,fastai,img2dataset')
    options = options.parse_args()
    names = [name for name in CONTENDERS if name.partition(', ')[0] in options.only.split(',') and (name != 'img2dataset' or options.img2dataset)]
    with tempfile.TemporaryDirectory() as work:
        files = cut_all(sorted((options.photos/'originals').glob('*.jpg')), options.count, Path(work))
        size = sum(os.path.getsize(f'{work}/{name}') for name in files) / len(files)
        server = subprocess.Popen([sys.executable, __file__, '--serve', work, str(options.latency / 1000)], stdout=subprocess.PIPE, text=True)
        port = server.stdout.readline().strip()
        urls = [f'http://127.0.0.1:{port}/{name}' for name in files]
        print_machine()
        pythons = {name: options.img2dataset if name == 'img2dataset' else sys.executable for name in names}
        try: found = in_turn(options.rounds, {name: lambda name=name: measure(name, pythons[name], urls) for name in names})
        finally: server.kill()
    speeds = {name: [speed for speed, _, _ in runs] for name, runs in found.items()}
    rows = [[name, *spread(speeds[name], '{:.1f}'), ratio(speeds[name], speeds[names[0]])[0], f'{max(run[1] for run in runs):.0f}', int(median(run[2] for run in runs))]
            for name, runs in found.items()]
    print_table(f'{len(urls)} photos of {size / 1000:.0f} kB on average, {options.latency:g} ms late, {options.rounds} rounds',
                ['', 'photos/s', 'range', f'x {names[0]}', 'peak MB', 'photos'], rows)


if __name__ == '__main__': main()
