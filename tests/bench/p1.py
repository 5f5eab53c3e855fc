import sys
from tests.bench import pace
from tests.bench.measures import show
from tests.bench.wiring import ledgers
from tempfile import TemporaryDirectory
from pathlib import Path
if __name__=="__main__":
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        show(pace._spent("x", opened[sys.argv[1]], sys.argv[2]=="bulk"))
