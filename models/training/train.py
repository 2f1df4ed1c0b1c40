"""Trains a network on the votes. Goes on from its checkpoint, as if it had never stopped. Uses a GPU where there is one."""

import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import data
import widen
from network import Network

BATCH = 64
RATE = 0.06  # the highest; from nothing to it in WARM_UP steps, and back along a cosine
RATE_WIDENED = 0.03  # the same for a network that begins as a narrower one
EMA = 0.9993
WARM_UP = 500  # steps
RARE = 0.35  # a picture is drawn as often as its classes are rare to this power; 0 is as they come, 1 all classes alike
MIXED = 0.2  # how much of another picture is mixed in, where any is: Beta(MIXED, MIXED), the smaller share
# A training that begins with nothing sees small pictures first, which cost less: up to this share of the epochs, this side.
SIDES = [(0.3, 32), (0.65, 40), (1, data.SIDE)]


def share(step, steps):
    """Share of the highest rate."""
    return max(min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps)), 1e-3)


def narrow_floats(device):
    """Whether training in 16-bit floats (bfloat16) is faster: where the processor has instructions for them."""
    return device == "cuda" or torch.cpu._is_avx512_bf16_supported()


def side(epoch, epochs, narrow):
    """Of the pictures in this epoch."""
    return data.SIDE if narrow else next(side for until, side in SIDES if epoch < until * epochs)


def train(path, checkpoint, seed, epochs, form, narrow=None, mixed=0):
    """Trains a network of this form, from nothing or from a narrower network of the same depth; gives its averaged weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    pictures, votes, _ = data.load(path, "train")
    valid, _, truth = data.load(path, "valid")
    prior = votes.mean(0)
    draws = votes @ (1 / prior) ** RARE
    # The prior of what is drawn, so that the logits stay those of the pictures as they come.
    drawn = (votes * draws[:, None]).sum(0) / draws.sum()
    shift = (drawn / prior).log().to(device)

    layout = dict(memory_format=torch.channels_last)
    net, average = Network(**form), Network(**form)
    if narrow:
        widen.widen(narrow.cpu(), net, seed)
    net, average = net.to(device, **layout), average.to(device, **layout).eval()
    average.load_state_dict(net.state_dict())
    parameters = list(net.parameters())
    # Biases and normalisation are not decayed.
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": 5e-4},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0}]
    optimiser = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)
    first = 0
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, map_location=device)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]

    per_epoch = len(pictures) // BATCH
    print(f"{sum(p.numel() for p in parameters)} parameters; {len(pictures)} pictures; drawn {drawn.tolist()}", flush=True)
    floats = lambda model: [v for v in model.state_dict().values() if v.is_floating_point()]
    for epoch in range(first, epochs):
        # All of an epoch's chance hangs on its number, so that a run taken up again goes on as it would have.
        random = torch.Generator().manual_seed(1000 * seed + epoch)
        torch.manual_seed(1000 * seed + epoch)
        mixing = np.random.default_rng(1000 * seed + epoch)
        # Evenly spaced draws in a random order: the share of a picture without its chance.
        order = torch.randperm(len(pictures), generator=random)
        at = torch.cumsum((draws / draws.sum())[order].double(), 0) * per_epoch * BATCH
        points = torch.arange(per_epoch * BATCH) + torch.rand(1, generator=random).double()
        picked = order[torch.searchsorted(at, points).clamp(max=len(pictures) - 1)]
        picked = picked[torch.randperm(len(picked), generator=random)]
        started, total = time.time(), 0.0
        net.train()
        for step in range(per_epoch):
            chosen = picked[step * BATCH:(step + 1) * BATCH]
            x, y = data.augment(pictures[chosen], random), votes[chosen]
            own = float(mixing.beta(mixed, mixed)) if mixed else 1.0
            own, others = max(own, 1 - own), torch.randperm(BATCH, generator=random)
            x, y = own * x + (1 - own) * x[others], own * y + (1 - own) * y[others]
            if (small := side(epoch, epochs, narrow)) != data.SIDE:
                x = F.interpolate(x, size=(small, small), mode="bilinear", antialias=True, align_corners=False)
            x, y = data.scaled(x).to(device, **layout), y.to(device)
            done = epoch * per_epoch + step
            for group in optimiser.param_groups:
                group["lr"] = (RATE_WIDENED if narrow else RATE) * share(done, epochs * per_epoch)
            with torch.autocast(device, torch.bfloat16, enabled=narrow_floats(device)):
                logits = net(x)
            loss = -(y * F.log_softmax(logits.float() + shift, 1)).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5)
            optimiser.step()
            total += loss.item()
            with torch.no_grad():
                torch._foreach_lerp_(floats(average), floats(net), 1 - min(EMA, (done + 1) / (done + 10)))
            if step == 50:
                print(f"50 steps in {time.time() - started:.1f} s", flush=True)
        state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
        torch.save(state, checkpoint + ".new")
        os.replace(checkpoint + ".new", checkpoint)
        logits = run(average, valid)
        right = (logits.argmax(1) == truth).float().mean()
        even = np.mean([(logits[truth == c] - 0.5 * prior.log()).argmax(1).eq(c).float().mean() for c in range(8)])
        print(f"epoch {epoch + 1}: loss {total / per_epoch:.4f}, valid {right:.4f}, balanced at half the prior {even:.4f}, "
              f"{time.time() - started:.0f} s", flush=True)
    return average


def run(net, pictures):
    device = next(net.parameters()).device
    net.eval()
    with torch.no_grad():
        return torch.cat([net(data.scaled(some).to(device)).cpu() for some in pictures.split(256)])
