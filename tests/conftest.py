"Fixtures shared by the tests: the photos, a cache of their own, a small model trained on drawings, the command."
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
settings.register_profile('steady', derandomize=True, database=None, deadline=None)  # the same examples in every run
settings.load_profile('steady')
COMMAND = [sys.executable, '-W', 'always', '-c', 'from archclf.cli import main; main()']


@pytest.fixture(scope='session', autouse=True)
def cache(tmp_path_factory):
    "Nothing is read from or written to the user's own cache."
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base)/'shared-cache'  # what one worker has embedded, the other need not
    folder.mkdir(exist_ok=True)
    before = os.environ.get('ARCHCLF_CACHE')
    os.environ['ARCHCLF_CACHE'] = str(folder)
    yield folder
    os.environ.pop('ARCHCLF_CACHE') if before is None else os.environ.update(ARCHCLF_CACHE=before)


@pytest.fixture(scope='session')
def photos():
    "The folder with `styles8` and `odd`: $ARCHCLF_PHOTOS, or shared/photos beside the repository."
    folder = Path(os.environ.get('ARCHCLF_PHOTOS') or ROOT.parent/'shared'/'photos')
    if not (folder/'styles8').is_dir(): pytest.skip(f'no photos in {folder}; set ARCHCLF_PHOTOS to a folder with styles8 and odd in it')
    return folder


@pytest.fixture(scope='session')
def styles8(cache, photos):
    "The photos of the eight styles as a `table`, with `embeddings` by the shipped backbone."
    from archclf.classifier import Classifier
    from archclf.dataset import scan_photos
    from archclf.embed import embed_photos
    table, problems = scan_photos(photos/'styles8')
    assert problems.empty
    return SimpleNamespace(table=table, embeddings=embed_photos(table, Classifier.open().backbone))


@pytest.fixture(scope='session')
def drawings(tmp_path_factory):
    "Eight drawings of each of the eight styles."
    from archclf.sample import draw_facades
    return draw_facades(tmp_path_factory.mktemp('drawings')/'drawings', per_style=8, seed=3)


@pytest.fixture(scope='session')
def model(cache, drawings, tmp_path_factory):
    "A model folder trained on the drawings."
    from archclf.probe import train_probe
    folder = tmp_path_factory.mktemp('models')/'drawn'
    train_probe(drawings, folder)
    return folder


@pytest.fixture(scope='session')
def run(cache, tmp_path_factory):
    "Type an `archclf` command in a folder of its own; gives what subprocess.run gives."
    home = tmp_path_factory.mktemp('home')

    def run(*arguments, cwd=home, text=True, timeout=120, before='', **environment):
        command = [*COMMAND[:-1], before + COMMAND[-1], *map(str, arguments)]
        stdin = environment.pop('stdin', '' if text else b'')
        return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, timeout=timeout, env={**os.environ, **environment},
                              **(dict(encoding='utf-8', errors='surrogateescape') if text else {}))
    return run


@pytest.fixture(scope='session')
def fails(run):
    "Type a command that cannot work: exit code 2 and one line on standard error, which is returned."
    def fails(*arguments, **options):
        done = run(*arguments, **options)
        assert (done.returncode, done.stdout) == (2, ''), done
        assert done.stderr.startswith('archclf: ') and done.stderr.endswith('\n') and done.stderr.count('\n') == 1, done.stderr
        return done.stderr
    return fails
