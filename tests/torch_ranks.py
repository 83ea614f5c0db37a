"""What tests/test_torch_ranks.py runs in each of several processes: torch's engines for many machines, over gloo."""
import traceback
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.algorithms.join import Join
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import fastopt.torch as ours

HOW = {"lr": 0.01, "weight_decay": 0.1}


class Net(torch.nn.Module):
    """A network whose last part takes no part in every second step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Linear(6, 50), torch.nn.Tanh(), torch.nn.Linear(50, 4))
        self.late = torch.nn.Linear(4, 4)

    def forward(self, x, t=0):
        return self.body(x) if t % 2 else self.late(self.body(x))


def batch(t, rank, size):
    torch.manual_seed(1000 + t)
    return torch.randn(8, 6)[rank::size]


def train(net, opts, steps, rank=0, size=1, first=0, alike=False):
    for t in range(first, first + steps):
        for opt in opts:
            opt.zero_grad()
        net(batch(t, rank, size), 0 if alike else t).square().mean().backward()
        for opt in opts:
            opt.step()


def whole(x):
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).detach()


def agree(net, expected, **tolerances):
    for (name, p), q in zip(net.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(whole(p), q.detach(), msg=lambda text, name=name: f"{name}: {text}",
                                   **(tolerances or {"rtol": 1e-4, "atol": 1e-6}))


def data_parallel(rank, size):
    """Bucket views, parameters that some steps do not use; torch's optimizer in one process is the measure."""
    expected = Net()
    train(expected, [torch.optim.AdamW(expected.parameters(), **HOW)], 4)
    net = Net()
    wrapped = DistributedDataParallel(net, gradient_as_bucket_view=True, find_unused_parameters=True)
    train(wrapped, [ours.AdamW(net.parameters(), **HOW)], 4, rank, size)
    agree(net, expected)


def zero(rank, size):
    """Each process has the states of its part; parameters in buckets or not; the state of all in one place."""
    expected = Net()
    reference = torch.optim.AdamW(expected.parameters(), **HOW)
    train(expected, [reference], 4, alike=True)
    for views in (False, True):
        net = Net()
        wrapped = DistributedDataParallel(net)
        opt = ZeroRedundancyOptimizer(net.parameters(), ours.AdamW, parameters_as_bucket_view=views, **HOW)
        train(wrapped, [opt], 3, rank, size, alike=True)
        opt.consolidate_state_dict(0)
        if rank == 0:
            assert opt.state_dict()["state"].keys() == reference.state_dict()["state"].keys()
        saved = [opt.state_dict() if rank == 0 else None]
        dist.broadcast_object_list(saved)
        opt = ZeroRedundancyOptimizer(net.parameters(), ours.AdamW, parameters_as_bucket_view=views, **HOW)
        opt.load_state_dict(saved[0])
        train(wrapped, [opt], 1, rank, size, 3, alike=True)
        agree(net, expected)
        assert len(opt.optim.state) < 6


def join(rank, size):
    """A process that has no more batches goes along."""
    net = Net()
    wrapped = DistributedDataParallel(net)
    opt = ZeroRedundancyOptimizer(net.parameters(), ours.SGD, lr=0.01, momentum=0.9)
    with Join([wrapped, opt]):
        train(wrapped, [opt], 1 + rank % 2, rank, size, alike=True)
    found = torch.cat([p.detach().flatten() for p in net.parameters()])
    others = [torch.empty_like(found) for _ in range(size)]
    dist.all_gather(others, found)
    assert all(torch.equal(found, other) for other in others)


KINDS = {"float32": {}, "q8": {"state": "q8"}, "averaging": {"schedule_free": 0.8}}


def alone(steps, **how):
    """The network and its optimizer after so many steps in one process: torch's, or ours with a modifier."""
    net = Net()
    opt = (ours if how else torch.optim).AdamW(net.parameters(), **HOW, **how)
    train(net, [opt], steps, alike=True)
    return net, opt


def sharded(mesh, **how):
    net = Net()
    for part in (net.late, net):
        fully_shard(part, mesh=mesh)
    return net, ours.AdamW(net.parameters(), **HOW, **how)


def fsdp(rank, size, folder):
    """DTensors directly. Checkpoints of float32, of blocks of eight bits and of averages, written here by all."""
    mesh = init_device_mesh("cpu", (size,))
    for kind, how in KINDS.items():
        net, opt = sharded(mesh, **how)
        train(net, [opt], 3, rank, size, alike=True)
        if kind != "q8":
            agree(net, alone(3, **how)[0])
        model_state, optimizer_state = get_state_dict(net, opt)
        dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=Path(folder, kind))
    net, opt = sharded(mesh, mars=True)
    with pytest.raises(ValueError, match="cut among processes, but a modifier of it measures whole tensors"):
        train(net, [opt], 1, rank, size)


def fsdp_loads(rank, size, folder):
    """Read on fewer processes, training goes on as if it had been here all the time."""
    mesh = init_device_mesh("cpu", (size,))
    for kind, how in KINDS.items():
        expected, straight = alone(5, **(how if kind == "averaging" else {}))
        net, opt = sharded(mesh, **how)
        model_state, optimizer_state = get_state_dict(net, opt)
        saved = {"model": model_state, "optimizer": optimizer_state}
        dcp.load(saved, checkpoint_id=Path(folder, kind))
        set_state_dict(net, opt, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
        train(net, [opt], 2, rank, size, 3, alike=True)
        agree(net, expected, **({"rtol": 0.05, "atol": 0.01} if kind == "q8" else {}))
        assert all(opt.state[p]["step"] == 5 for p in net.parameters())
        if kind == "averaging":
            before = [whole(p).clone() for p in net.parameters()]
            for one in (opt, straight):
                one.eval()
            agree(net, expected)
            assert not any(torch.equal(whole(p), x) for p, x in zip(net.parameters(), before, strict=True))
            opt.train()
            assert all(torch.equal(whole(p), x) for p, x in zip(net.parameters(), before, strict=True))


def bits(rank, size):
    """Random bits are those of an element's place: however many processes there are, the same bits come of it."""
    def parameters():
        torch.manual_seed(3)
        return torch.nn.Parameter(torch.randn(40, 8).bfloat16()), torch.randn(3, 40, 8).bfloat16()
    from torch.distributed.tensor import Shard, distribute_tensor
    mesh, (w, gs) = init_device_mesh("cpu", (size,)), parameters()
    cut = torch.nn.Parameter(distribute_tensor(w.detach(), mesh, [Shard(0)]))
    how = {"lr": 0.1, "rounding": "stochastic", "state": "bf16s", "seed": 2}
    opt, one = ours.Adam([cut], **how), ours.Adam([w], **how)
    for g in gs:
        w.grad, cut.grad = g.clone(), distribute_tensor(g, mesh, [Shard(0)])
        opt.step()
        one.step()
    assert torch.equal(whole(cut), w.detach())
    assert torch.equal(whole(opt.state[cut]["exp_avg"]), one.state[w]["exp_avg"])


def run(rank, size, folder, queue):
    """All of it on `size` processes, then what reads it on half of them."""
    torch.set_num_threads(1)
    try:
        start(rank, size, folder)
        for part in (data_parallel, zero, join, bits):
            part(rank, size)
        fsdp(rank, size, folder)
        dist.destroy_process_group()
        if rank < size//2:
            start(rank, size//2, folder)
            fsdp_loads(rank, size//2, folder)
            dist.destroy_process_group()
        queue.put((rank, ""))
    except BaseException:
        queue.put((rank, traceback.format_exc()))
        raise


def start(rank, size, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store{size}", rank=rank, world_size=size)
