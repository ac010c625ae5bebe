"""What the benchmarks share: whole processes timed with their peak memory, rounds in turn, one small table."""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 2 ** 20


@dataclass(frozen=True)
class Run:
    "One finished process."
    seconds: float
    busy: float  # CPU seconds, which other work on the machine sways less
    megabytes: float  # Peak resident memory
    code: int
    out: str
    err: str


# Linux counts the memory of the process that starts another towards its peak: a small one in between keeps ours out of it
LAUNCHER = """
import os, sys, time
start = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
with open(sys.argv[1], 'w') as file:
    print(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status), file=file)
"""


def run_process(command, env=None, unit=1 if sys.platform == 'darwin' else 1024):
    "Run `command` to its end, its peak memory taken from wait4 (which counts bytes on a Mac, kilobytes elsewhere)."
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        launcher = [sys.executable, '-I', '-S', '-c', LAUNCHER, f'{folder}/usage', *map(str, command)]
        subprocess.run(launcher, stdout=out, stderr=err, env={**os.environ, **(env or {})}, check=True)
        seconds, busy, memory, code = map(float, Path(folder, 'usage').read_text().split())
        texts = [file.seek(0) or file.read().decode('utf-8', 'replace') for file in (out, err)]
    return Run(seconds, busy, memory * unit / MEGABYTE, int(code), *texts)


def run_checked(command, env=None):
    "Run `command`; stop the benchmark when it fails."
    run = run_process(command, env)
    if run.code: raise SystemExit(f"{' '.join(map(str, command))} ended with {run.code}: {(run.err or run.out).strip()[-500:]}")
    return run


def timed(function, *arguments):
    "Seconds that a call takes."
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def in_turn(rounds, functions):
    "Call each of `{name: function}` once a round (A B A B ...), so that drift hits all alike; `{name: [result, ...]}`."
    results = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items(): results[name].append(function())
    return results


def spread(values, form='{:.2f}'):
    "Median and range of `values` as two cells."
    return [form.format(statistics.median(values)), ' - '.join(form.format(end) for end in (min(values), max(values)))]


def ratio(values, others):
    "Median and range, as two cells, of the ratios of measurements taken in the same round."
    return spread([value / other for value, other in zip(values, others, strict=True)])


def print_table(title, header, rows, left=1):
    "Print rows of cells in columns: the first `left` of them to the left, the others to the right."
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f'\n{title}')
    for row in cells:
        line = [cell.ljust(width) if number < left else cell.rjust(width) for number, (cell, width) in enumerate(zip(row, widths, strict=True))]
        print('  '.join(line).rstrip(), flush=True)


def script(name):
    "The command installed beside this Python."
    path = Path(sys.executable).parent/name
    if not path.is_file(): raise SystemExit(f"{path}: not installed; run `pip install -e .` with this Python")
    return path


def parser(description):
    "An argument parser with the photos as its first argument."
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get('ARCHCLF_PHOTOS') or Path(__file__).resolve().parent.parent.parent/'shared'/'photos'
    default = Path(default) if Path(default).is_dir() else None
    parser.add_argument('photos', type=Path, nargs='?' if default else None, default=default,
                        help=f"the folder that holds styles8/ and odd/; default: $ARCHCLF_PHOTOS, or ../shared/photos if it exists (now: {default})")
    return parser


def styles8(photos):
    "The folder of labelled photos within `photos`, or `photos` itself if it holds the classes."
    return photos/'styles8' if (photos/'styles8').is_dir() else photos


def jpegs(photos):
    "All labelled photos, in order."
    found = sorted(styles8(photos).glob('*/*.jpg'))
    if not found: raise SystemExit(f"{styles8(photos)}: no photos here; expected <label>/<photo>.jpg")
    return found


def every(items, count):
    "`count` of `items`, evenly spread over them (all, if there are fewer)."
    return items[::max(1, len(items) // count)][:count]


def print_machine():
    "What the numbers depend on."
    load = ' '.join(f'{value:.1f}' for value in os.getloadavg())
    print(f'{os.cpu_count()} cores, load {load} (1, 5, 15 min), Python {sys.version.split()[0]}')
