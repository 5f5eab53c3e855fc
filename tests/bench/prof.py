import time, cProfile, pstats
from tempfile import TemporaryDirectory
from pathlib import Path
from tests.bench.wiring import *
from tests.bench.accounts import *
from airflow_provider_qadzd.sync.draft import draft_plan
if __name__=="__main__":
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
      for name in opened:
        with sandbox(6000,14000) as served:
            w=Wired(served, opened[name]); w.learn_limits(); make_fields(w)
            t=time.time(); collect(w.ledger, w.source_id, w.qad, "r"); print(name,"collect",time.time()-t)
            t=time.time(); refresh_mirror(w.ledger, w.account.account_id, w.zendesk); print("mirror",time.time()-t)
            p=cProfile.Profile(); t=time.time(); p.enable(); draft_plan(w.ledger, w.flow, Rules(), "r", ALL); p.disable(); print("plan",time.time()-t)
            pstats.Stats(p).sort_stats("cumulative").print_stats(22)
