"The Gradio Space as Hugging Face would run it: installed from its own requirements in an empty environment, started, and asked."
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import venv
from contextlib import contextmanager

import httpx
import pytest
from gradio_client import Client, handle_file

from archclf.classifier import MODELS, Classifier
from archclf.image import ImageError
from archclf.sample import PAINTERS, draw_facade
from archclf.space import write_gradio

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


@pytest.fixture(scope='module')
def space(tmp_path_factory): return write_gradio(tmp_path_factory.mktemp('spaces')/'gradio')

@pytest.fixture(scope='module')
def environment(space, tmp_path_factory):
    "An empty environment with what requirements.txt asks for, and nothing of this one."
    folder = tmp_path_factory.mktemp('environment')/'venv'
    venv.create(folder, with_pip=True)
    install(folder, '-r', space/'requirements.txt')
    return folder

def install(folder, *what): subprocess.run([folder/'bin/pip', 'install', '--quiet', '--disable-pip-version-check', *map(str, what)], check=True, capture_output=True)

@contextmanager
def running(environment, space):
    "The Space, started; gives its address."
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(('PYTHON', 'ARCHCLF', 'GRADIO', 'VIRTUAL'))}
    process = subprocess.Popen([environment/'bin/python', 'app.py'], cwd=space, env=clean | {'GRADIO_SERVER_PORT': str(port)},
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address, until = f'http://127.0.0.1:{port}/', time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < until, process.stdout.read()
            try: httpx.get(address, timeout=2).raise_for_status()
            except httpx.HTTPError: time.sleep(.1)
            else: break
        yield address
    finally:
        process.terminate()
        process.wait()

@pytest.fixture(scope='module')
def address(environment, space):
    with running(environment, space) as address: yield address


def test_the_environment_is_small_and_without_torch(environment, space):
    packages = next((environment/'lib').glob('python*/site-packages'))
    tools = [path for path in packages.iterdir() if path.name.split('-')[0] in ('pip', 'setuptools', 'pkg_resources', '_distutils_hack')]
    assert disk_space(environment) - disk_space(*tools) <= 450e6
    assert not [path.name for path in packages.iterdir() if path.name.startswith(('torch', 'fastai', 'nvidia'))]
    assert disk_space(space) <= 20e6

def disk_space(*paths):
    "Bytes that files and folders take."
    lines = subprocess.run(['du', '-s', '--block-size=1', *map(str, paths)], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(int(line.split()[0]) for line in lines)

def test_fifty_drawings_get_the_answers_of_archclf(address, tmp_path):
    client, classifier = Client(address, verbose=False), Classifier.open()
    drawings = [(style, seed) for seed in range(7) for style in PAINTERS][:50]
    for style, seed in drawings: draw_facade(style, seed=seed).save(tmp_path/f'{style}-{seed}.png')
    paths = sorted(tmp_path.iterdir())
    replies = client.predict([handle_file(path) for path in paths], api_name='/classify_many')
    assert len(paths) == len(replies) == 50
    for path, reply in zip(paths, replies): agree(reply, classifier.classify(path))

def agree(reply, expected):
    assert reply['label'] == expected.label and reply['sure'] == expected.sure
    assert reply['probabilities'] == pytest.approx(expected.probabilities, abs=1e-3)

def test_odd_files_get_the_answers_of_archclf_or_its_reasons(address, photos):
    client, classifier = Client(address, verbose=False), Classifier.open()
    paths = sorted(path for path in (photos/'odd').iterdir() if path.suffix != '.md')
    replies = client.predict([handle_file(path) for path in paths], api_name='/classify_many')
    assert len(replies) == len(paths) > 30
    for path, reply in zip(paths, replies):
        try: agree(reply, classifier.classify(path))
        except ImageError as error: assert reply == {'error': str(error).replace(str(path), path.name)}

def test_a_visitor_sees_the_answer_and_the_drawings(address, tmp_path):
    if not CHROMIUM: pytest.skip('needs chromium or google-chrome on the PATH')
    from playwright.sync_api import sync_playwright
    draw_facade('byzantine', seed=1).save(tmp_path/'one.png')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu', '--disable-background-networking'])
        tab = browser.new_page()
        strangers = []
        tab.on('request', lambda request: request.url.startswith((address, 'data:', 'blob:')) or strangers.append(request.url))
        tab.goto(address)
        tab.set_input_files('#ac-photo input[type=file]', tmp_path/'one.png')
        tab.locator('#ac-answer').get_by_role('heading', name='byzantine').first.wait_for()
        tab.get_by_role('button', name='Drawing of victorian').wait_for()
        assert tab.locator('#ac-examples img').count() == 8 and not tab.locator('#ac-feedback').count() and strangers == []
        browser.close()

def test_the_head_of_the_readme_is_what_hugging_face_reads(space):
    import yaml
    from huggingface_hub import SpaceCard
    card = SpaceCard.load(space/'README.md').data
    assert (card.sdk, card.app_file, card.title) == ('gradio', 'app.py', 'Eight styles of architecture')
    assert f'gradio=={card.sdk_version}\n' in (space/'requirements.txt').read_text()
    head = yaml.safe_load((space/'README.md').read_text(encoding='utf-8').split('---')[1])
    assert head['python_version'] == f'{sys.version_info.major}.{sys.version_info.minor}' and head['license'] == 'apache-2.0'
    assert not re.search('_file|models/', head['title'])

def test_modules_and_model_are_copied_as_they_are(space):
    for path in (space/'archclf').glob('*.py'): assert path.read_bytes() == (MODELS.parent/path.name).read_bytes()
    for path in (MODELS/'styles8').iterdir(): assert path.read_bytes() == (space/'model'/path.name).read_bytes()

def test_on_zero_gpu_the_function_is_there_and_the_page_answers(environment, tmp_path):
    space = write_gradio(tmp_path/'zero', zero_gpu=True)
    install(environment, 'spaces')
    code = 'import app; from spaces.zero import decorator; print(app.use_graphics_card.__name__, app.page.title)'
    found = subprocess.run([environment/'bin/python', '-c', code], cwd=space, capture_output=True, text=True)
    assert found.stdout == 'use_graphics_card Eight styles of architecture\n', found.stderr
    assert (space/'app.py').read_text().index('import spaces') < (space/'app.py').read_text().index('from archclf.app')  # it wants to come first
    draw_facade('byzantine', seed=1).save(tmp_path/'one.png')
    with running(environment, space) as address:
        assert Client(address, verbose=False).predict(handle_file(tmp_path/'one.png'), api_name='/classify')['label'] == 'byzantine'

def test_another_folder_is_not_overwritten(tmp_path):
    (tmp_path/'thesis').mkdir()
    (tmp_path/'thesis'/'chapter.tex').write_text('years of work')
    with pytest.raises(ValueError, match='chapter.tex.*choose another name'): write_gradio(tmp_path/'thesis')
    assert [path.name for path in (tmp_path/'thesis').iterdir()] == ['chapter.tex']
    write_gradio(tmp_path/'space')
    (tmp_path/'space/examples/old.png').write_bytes(b'')
    write_gradio(tmp_path/'space')
    assert not (tmp_path/'space/examples/old.png').exists()
