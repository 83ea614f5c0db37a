"""fastopt.torch in torch's engines for many machines: four processes, then two that read what they wrote."""
import multiprocessing
import warnings
from multiprocessing.connection import wait

import pytest

torch = pytest.importorskip("torch")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's own
    import torch_ranks


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_torchs_engines_for_many_machines(tmp_path):
    """DistributedDataParallel, ZeroRedundancyOptimizer, Join, FSDP2, its checkpoints: see torch_ranks.py."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch_ranks"])  # torch is imported once for all
    queue, size = context.SimpleQueue(), 4
    workers = [context.Process(target=torch_ranks.run, args=(rank, size, str(tmp_path), queue), daemon=True)
               for rank in range(size)]
    for one in workers:
        one.start()
    try:
        for _ in workers:
            while queue.empty() and (alive := [one.sentinel for one in workers if one.is_alive()]):
                wait(alive, 0.1)
            rank, failure = (None, "it ended without a word") if queue.empty() else queue.get()
            assert not failure, f"process {rank}: {failure}"
    finally:
        for one in workers:
            one.kill()
            one.join()
