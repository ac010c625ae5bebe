"""The app and the Spaces: how many photos a second, memory, cold start, sizes, and the model in a browser.

    python bench/app.py [PHOTOS] [--only load,memory,start,size,browser] [--rounds 5]

load: 16 clients send 400 photos to `archclf app`, one by one (`/classify`) and in requests of 25 (`/classify_many`), every answer compared
with `Classifier.classify`; against `classify_each` over the same photos in a process that has the machine to itself; in turn.
memory: what the server holds in memory after 200 requests and after 2,000, photos by turns.
start: the Gradio Space that `write_gradio` writes, in an environment of its own made from its requirements.txt: from `python app.py` to
the answer to its first photo; against a fastai app over the same network (`load_learner`, `gradio.Interface`) in the environment of this Python.
size: of that environment, and of both folders.
browser: the static Space in headless Chromium (package chromium): from opening the page with nothing cached to its first answer, and
later answers against `Classifier.classify` on the same photo. Needs `npm ci --prefix tests`.

PHOTOS holds styles8/. Needs `pip install -e .[dev,train]`, and a package index for the environment.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import httpx
from predict import export_learner
from timing import MEGABYTE, every, in_turn, jpegs, parser, print_machine, print_table, ratio, run_checked, script, spread, timed

RUNTIME = Path(__file__).resolve().parents[1]/'tests/node_modules/onnxruntime-web'
PARTS = 'load', 'memory', 'start', 'size', 'browser'
BARE = '''
import sys, time
from archclf.classifier import Classifier, classify_each
classifier, paths = Classifier.open(), sys.argv[1:]
for _ in classify_each(classifier, paths[:8]): pass
start = time.perf_counter()
for _ in classify_each(classifier, paths): pass
print(time.perf_counter() - start)
'''
FASTAI = '''
import os, sys, warnings
warnings.filterwarnings('ignore')
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
from fastai.vision.all import PILImage, load_learner
import gradio
learn = load_learner(sys.argv[1])
def classify(photo):
    with learn.no_bar(): label, _, shares = learn.predict(PILImage.create(photo))
    return dict(zip(map(str, learn.dls.vocab), map(float, shares)))
gradio.Interface(classify, gradio.Image(type='pil'), gradio.Label(), api_name='classify').launch(server_port=int(sys.argv[2]), quiet=True)
'''


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def ask(http, base, name, paths):
    "Upload photos, ask about them, read the answer: what gradio_client does, with less of its own work."
    uploads = http.post(f'{base}/upload', files=[('files', (path.name, path.read_bytes())) for path in paths]).raise_for_status().json()
    photos = [{'path': upload, 'orig_name': path.name, 'meta': {'_type': 'gradio.FileData'}} for upload, path in zip(uploads, paths, strict=True)]
    event = http.post(f'{base}/call/{name}', json={'data': [photos if name == 'classify_many' else photos[0]]}).raise_for_status().json()['event_id']
    reply = http.get(f'{base}/call/{name}/{event}').text
    if not reply.startswith('event: complete'): raise SystemExit(f'{paths[0]}: {reply[:300]}')
    return json.loads(reply.partition('data: ')[2])[0]


@contextmanager
def server(command, env=None, cwd=None):
    "A page in a process of its own, until it answers; gives its address for programs and its process."
    port = free_port()
    process = subprocess.Popen([*map(str, command), *([str(port)] if command[-1] != 'app.py' else [])], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env={**os.environ, 'GRADIO_SERVER_PORT': str(port), 'GRADIO_ANALYTICS_ENABLED': 'False', **(env or {})})
    try: yield f'http://127.0.0.1:{port}/gradio_api', process
    finally:
        process.terminate()
        process.wait()


def wait_until_up(base, process, seconds=60):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        if process.poll() is not None: raise SystemExit(f"the server ended: {process.stderr.read().decode()[-500:]}")
        try:
            if httpx.get(f'{base}/info', timeout=1).status_code == 200: return
        except httpx.TransportError: time.sleep(.02)
    raise SystemExit(f'{base}: no answer in {seconds} s')


def send_all(base, name, paths, size, clients=16):
    "`(seconds, seconds of each request, {path: answer})` of so many clients that share the photos."
    groups, lock, times, answers = [paths[i:i + size] for i in range(0, len(paths), size)], threading.Lock(), [], {}

    def client(_):
        with httpx.Client(timeout=120) as http:
            while True:
                with lock:
                    if not groups: return
                    group = groups.pop()
                start = time.perf_counter()
                found = ask(http, base, name, group)
                times.append(time.perf_counter() - start)
                answers.update(zip(group, found if name == 'classify_many' else [found], strict=True))
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool: list(pool.map(client, range(clients)))
    return time.perf_counter() - start, times, answers


def check(answers, expected):
    wrong = [path for path, found in answers.items() if found['label'] != expected[path].label or abs(found['confidence'] - expected[path].confidence) > 1e-5]
    if wrong or len(answers) != len(expected): raise SystemExit(f'{len(answers)} of {len(expected)} answers, {len(wrong)} of them wrong, such as {wrong[:1]}')


def load(paths, rounds):
    from archclf.classifier import Classifier
    classifier, chosen = Classifier.open(), every(paths, 400)
    expected = {path: classifier.classify(path) for path in chosen}
    with server([script('archclf'), 'app', '--port']) as (base, process):
        wait_until_up(base, process)
        send_all(base, 'classify_many', chosen[:64], 8)  # files into the disk cache, sessions made
        ways = {'classify_each, bare': lambda: (float(run_checked([sys.executable, '-c', BARE, *chosen]).out), [], None),
                '16 clients, /classify_many of 25': partial(send_all, base, 'classify_many', chosen, 25),
                '16 clients, /classify': partial(send_all, base, 'classify', chosen, 1)}
        runs = in_turn(rounds, ways)
    for found in runs.values():
        for _, _, answers in found:
            if answers is not None: check(answers, expected)
    rates = {name: [len(chosen) / seconds for seconds, *_ in found] for name, found in runs.items()}
    bare = rates['classify_each, bare']
    rows = []
    for name, found in runs.items():
        times = sorted(seconds for run in found for seconds in run[1])
        rows.append([name, *spread(rates[name], '{:.0f}'), *ratio(rates[name], bare), f'{1000 * times[int(.95 * len(times))]:.0f}' if times else ''])
    print_table(f'{len(chosen)} photos, {rounds} rounds, every answer compared', ['', 'photos/s', 'range', 'of bare', 'range', 'p95 ms a request'], rows)


def resident(process):
    "Megabytes of a process, from /proc."
    pages = int(Path(f'/proc/{process.pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / MEGABYTE


def memory(paths, rounds):
    chosen, found = every(paths, 200), []
    with server([script('archclf'), 'app', '--port']) as (base, process):
        wait_until_up(base, process)
        for _ in range(10):
            send_all(base, 'classify', chosen, 1)
            found.append(resident(process))
    print_table('Memory of the server', ['requests', 'MB'], [[f'{200 * (number + 1):,}', f'{value:.0f}'] for number, value in enumerate(found)])


def first_answer(command, photo, env=None, cwd=None):
    "Seconds from the start of a server to its first answer."
    start = time.perf_counter()
    with server(command, env, cwd) as (base, process), httpx.Client(timeout=60) as http:
        wait_until_up(base, process)
        ask(http, base, 'classify', [photo])
        return time.perf_counter() - start


def weigh(*folders):
    "Megabytes (of a million bytes) that folders take on the disk."
    lines = subprocess.run(['du', '-s', '--block-size=1', *folders], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(int(line.split()[0]) for line in lines) / 1e6


def make_environment(space, folder):
    venv.create(folder, with_pip=True)
    run_checked([folder/'bin/pip', 'install', '--quiet', '--disable-pip-version-check', '-r', space/'requirements.txt'])
    return folder/'bin/python'


def start(paths, rounds, work):
    space, photo, learner = work/'gradio', paths[0], work/'learner.pkl'
    python = make_environment(space, work/'environment')
    ways = {'Gradio Space': partial(first_answer, [python, 'app.py'], photo, cwd=space)}
    if export_learner(paths, learner): ways['fastai app'] = partial(first_answer, [sys.executable, '-c', FASTAI, learner], photo)
    for way in ways.values(): way()  # files into the disk cache
    runs = in_turn(rounds, ways)
    rows = [[name, *spread(values), ratio(values, runs['Gradio Space'])[0]] for name, values in runs.items()]
    print_table(f'From the start to the first answer, {rounds} rounds', ['', 'seconds', 'range', 'x'], rows)


def size(paths, rounds, work):
    if not (work/'environment').exists(): make_environment(work/'gradio', work/'environment')
    rows = {'environment of the Gradio Space': weigh(work/'environment'), 'of that, pip and setuptools': weigh(*tools_in(work/'environment')),
            'Gradio Space': weigh(work/'gradio'), 'static Space': weigh(work/'static')}
    print_table('Sizes', ['', 'MB'], [[name, f'{megabytes:.1f}'] for name, megabytes in rows.items()])


def tools_in(environment):
    packages = next((environment/'lib').glob('python*/site-packages'))
    return [path for path in packages.iterdir() if path.name.split('-')[0] in ('pip', 'setuptools', 'pkg_resources', '_distutils_hack')]


@contextmanager
def files_of(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{http.server_port}/'
        http.shutdown()


def browser(paths, rounds, work):
    from archclf.classifier import Classifier
    from playwright.sync_api import sync_playwright
    classifier, chosen, first, python = Classifier.open(), every(paths, 20), [], []
    later = {'first visit, one thread': [], 'later visits, threads': []}
    with sync_playwright() as playwright, files_of(work/'static') as address:
        for _ in range(rounds):
            chromium = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox', '--disable-gpu', '--disable-background-networking'])
            tab = chromium.new_page()
            begun = time.perf_counter()
            tab.goto(address)
            tab.locator('#ac-main').wait_for()
            tab.set_input_files('input[type=file]', chosen[0])
            tab.locator('.ac-bars').wait_for()
            first.append(time.perf_counter() - begun)
            later['first visit, one thread'] += [in_browser(tab, path) for path in chosen]
            tab.wait_for_function("document.querySelector('#ac-offline').textContent")
            tab.reload()  # from here on the service worker serves the page, and threads are allowed
            tab.wait_for_function('window.crossOriginIsolated && window.archclf')
            in_browser(tab, chosen[0])
            later['later visits, threads'] += [in_browser(tab, path) for path in chosen]
            chromium.close()
            python += [timed(classifier.classify, path) for path in chosen]
    rows = [['first answer, nothing cached', *spread(first), ''],
            *([f'later answers, {visit}', *spread(values, '{:.4f}'), f'{median(values) / median(python):.2f}'] for visit, values in later.items()),
            ['Classifier.classify', *spread(python, '{:.4f}'), '1.00']]
    print_table(f'In Chromium, {rounds} rounds', ['', 'seconds', 'range', 'x Python'], rows)


def in_browser(tab, path):
    "Seconds that the page takes to classify a photo, from its bytes."
    return tab.evaluate('''async bytes => {
        const blob = new Blob([new Uint8Array(bytes)]), start = performance.now()
        await archclf.classify(blob)
        return (performance.now() - start) / 1000
    }''', list(path.read_bytes()))


def main(photos, rounds, only):
    from archclf.space import write_gradio, write_static
    print_machine()
    paths = jpegs(photos)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_gradio(work/'gradio')
        if {'size', 'browser'} & set(only): write_static(work/'static', runtime=RUNTIME)
        if 'load' in only: load(paths, rounds)
        if 'memory' in only: memory(paths, rounds)
        for part in (start, size, browser):
            if part.__name__ in only: part(paths, rounds, work)


def parts(text):
    chosen = text.split(',')
    if set(chosen) - set(PARTS): raise ValueError
    return chosen


if __name__ == '__main__':
    parser = parser(__doc__)
    parser.add_argument('--only', type=parts, default=PARTS, help=','.join(PARTS))
    parser.add_argument('--rounds', type=int, default=5)
    main(**vars(parser.parse_args()))
