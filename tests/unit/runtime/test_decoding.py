from __future__ import annotations

import subprocess
import sys

# Each type can be read for the first time once, so there are many of the same form: of five hundred
# that nobody has prepared, a thread reads some before another has looked at all of their fields.
CHILD = """
import sys, threading, types
import msgspec
from penstock.runtime.decoding import prepare_decoding

FORM = '''
from __future__ import annotations
import msgspec

class Inner(msgspec.Struct):
    number: int
    text: str

class Middle(msgspec.Struct):
    inner: Inner
    more: list[Inner]

class Outer(msgspec.Struct):
    middle: Middle
    rest: list[Middle]
    text: str
'''
INNER = {"number": 1, "text": "a"}
MIDDLE = {"inner": INNER, "more": [INNER]}
VALUE = msgspec.json.encode({"middle": MIDDLE, "rest": [MIDDLE], "text": "b"})
THREADS = 3

kinds = []
for number in range(500):
    name = f"penstock.made_{number}"
    sys.modules[name] = module = types.ModuleType(name)
    exec(FORM, module.__dict__)
    kinds.append(module.Outer)
if sys.argv[1] == "prepared":
    prepare_decoding()
sys.setswitchinterval(1e-6)
together = threading.Barrier(THREADS)

def read():
    for kind in kinds:
        together.wait()
        msgspec.json.decode(VALUE, type=kind)

threads = [threading.Thread(target=read) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_may_read_a_type_for_the_first_time_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "prepared"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
