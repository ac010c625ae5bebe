"""Everything that has to hold before a change lands: `make test` runs this.

The package is what the notebooks export, the notebooks are clean and run, the tests pass, and the documentation builds
without a warning or a dead link. A step that fails is named at the end; the others still run.
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STEPS = {
    'package equals notebooks': ['{bin}/python', 'tools/check.py', 'exported'],
    'notebooks run': ['{bin}/nbdev-test', '--n-workers', '2'],
    'README equals index': ['{bin}/python', 'tools/docs.py', 'readme', '--check'],
    'documentation builds': ['{bin}/python', 'tools/docs.py', 'build'],
    'documentation has no dead links': ['{bin}/python', 'tools/docs.py', 'check'],
    'tests': ['{bin}/python', '-m', 'pytest', '-q', '-n', '2', '--dist', 'loadfile', '--durations', '15'],
}


def exported():
    "Export and clean the notebooks in a copy, and say which files differ"
    with tempfile.TemporaryDirectory() as folder:
        tracked = subprocess.run(['git', 'ls-files', 'nbs', 'archclf/*.py', 'pyproject.toml', 'settings.ini'], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        for name in tracked:
            (Path(folder)/name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder)/name).write_bytes((ROOT/name).read_bytes())
        for command in ('nbdev-export', 'nbdev-clean'): subprocess.run([BIN/command], cwd=folder, check=True)
        changed = [name for name in tracked if (Path(folder)/name).read_bytes() != (ROOT/name).read_bytes()]
        known = {str(path.relative_to(folder)) for path in (Path(folder)/'archclf').glob('*.py')}
    for name in changed: print(f'{name} is not what the notebooks export; run: nbdev-export && nbdev-clean')
    for name in known - set(tracked): print(f'{name} is exported but not in git; run: git add {name}')
    return int(bool(changed or known - set(tracked)))


def main():
    failed = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, 'ARCHCLF_CACHE': cache, 'MPLBACKEND': 'agg', 'OMP_NUM_THREADS': '1', 'GRADIO_ANALYTICS_ENABLED': 'False', 'PATH': f"{BIN}:{os.environ['PATH']}"}
        for name, command in STEPS.items():
            print(f'== {name}', flush=True)
            start = time.time()
            code = subprocess.run([part.format(bin=BIN) for part in command], cwd=ROOT, env=environment).returncode
            print(f"== {name}: {'ok' if code == 0 else 'FAILED'} ({time.time() - start:.0f} s)", flush=True)
            if code: failed.append(name)
    if failed: sys.exit(f"failed: {', '.join(failed)}")
    print('all checks passed')


if __name__ == '__main__': sys.exit(exported() if sys.argv[1:] == ['exported'] else main())
