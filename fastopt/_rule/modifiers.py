"""What documentation says of each modifier, by the name of its piece: what a user writes, its formula, its source.

A formula is code, with ``^`` for powers and ``<-`` for a number that is kept; a test runs it beside a step. In it, g is
the gradient and u the update, both of one tensor; wd is `weight_decay`, norm the Euclidean norm, rms the root mean
square. The argument's own number has the name that its line in `documentation` or `hyperparameters` gives it.
"""
from typing import NamedTuple


class Facts(NamedTuple):
    """A modifier: its title, how to ask for it, its formula, its source, and what does the same in another system."""

    title: str
    use: str
    formula: str
    source: str = ""
    twin: str = ""


LARGE = '"Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes", https://arxiv.org/abs/1904.00962'
CAUTIOUS = ('Liang et al. 2024, "Cautious Optimizers: Improving Training with One Line of Code", '
            "https://arxiv.org/abs/2411.16085")
FACTS = {
    "adaptive_clip": Facts(
        "Adaptive gradient clipping", "adaptive_clip=0.01",
        "g = g*min(1, adaptive_clip*max(norm(p), 0.001)/norm(g))",
        'Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization", '
        "https://arxiv.org/abs/2102.06171", "optax.adaptive_grad_clip"),
    "mars": Facts(
        "MARS", "mars=0.025", "h = g + gamma*b1/(1-b1)*(g - old)\nold <- g\ng = h*min(1, 1/norm(h))",
        'Yuan et al. 2024, "MARS: Unleashing the Power of Variance Reduction for Training Large Models", '
        "https://arxiv.org/abs/2411.10438"),
    "grokfast": Facts(
        "GrokFast", "grokfast=(0.98, 2.0)", "h <- share*h + (1-share)*g\ng = g + factor*h",
        'Lee et al. 2024, "Grokfast: Accelerated Grokking by Amplifying Slow Gradients", '
        "https://arxiv.org/abs/2405.20233"),
    "gradient_trust": Facts(
        "Trust ratio of the gradient", 'trust_ratio="gradient"',
        "g = trust_coefficient*norm(p)/(norm(g) + wd*norm(p))*(g + wd*p)",
        'You et al. 2017, "Large Batch Training of Convolutional Networks", https://arxiv.org/abs/1708.03888',
        "optax.lars"),
    "cautious": Facts("Cautious updates", "cautious=True", "u = where(u*g > 0, u, 0)", CAUTIOUS),
    "cautious_scaled": Facts(
        "Cautious updates, scaled", 'cautious="scaled"',
        "k = sum(u*g > 0)\nu = where(u*g > 0, u*n/(k+1), 0)", CAUTIOUS),
    "update_clip": Facts("Clipped updates", "update_clip=1.0", "u = min(max(u, -lr*update_clip), lr*update_clip)"),
    "update_rms": Facts(
        "Updates of limited root mean square", "update_rms=1.0", "u = u*min(1, lr*update_rms/rms(u))",
        'Shazeer and Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", '
        "https://arxiv.org/abs/1804.04235", "optax.clip_by_block_rms"),
    "update_trust": Facts(
        "Trust ratio of the update", 'trust_ratio="update"',
        "r = u + lr*wd*p\np <- p - lr*trust_coefficient*norm(p)/norm(r)*r", f"You et al. 2020, {LARGE}",
        "optax.scale_by_trust_ratio"),
    "cautious_decay": Facts(
        "Cautious weight decay", "cautious_decay=True", "p <- p - u - lr*wd*where(u*p >= 0, p, 0)",
        'Chen et al. 2025, "Cautious Weight Decay", https://arxiv.org/abs/2510.12402'),
    "schedule_free": Facts(
        "Schedule-Free learning", "schedule_free=0.9",
        "total <- total + lr^2\nw = lr^2/total\nz <- z - u\nx <- (1-w)*x + w*z\np <- (1-b)*z + b*x",
        'Defazio et al. 2024, "The Road Less Scheduled", https://arxiv.org/abs/2405.15682',
        "optax.contrib.schedule_free"),
    "average": Facts("Weight average", "average=0.999", "average <- d*average + (1-d)*p", "", "optax.ema"),
}
