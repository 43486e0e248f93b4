"""What the guide says of related losses: each call against that loss written down, in float64."""

import math

import torch
from torch import log_softmax, logsumexp
from torch.nn.functional import cosine_similarity, normalize, one_hot

from genscl_lite import gaussian_similarity, gen_supcon_loss

DRAW = torch.Generator().manual_seed(0)
N, D, C, TAU = 9, 5, 4, 0.3
Z, KEYS, CENTERS = (
    normalize(torch.randn(n, D, generator=DRAW, dtype=torch.float64)) for n in (N, N, C)
)
NUMBERS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0, 1])
SOFT = torch.randn(N, C, generator=DRAW, dtype=torch.float64).softmax(1)
TEXTS = normalize(torch.randn(N, 6, generator=DRAW, dtype=torch.float64))
AGES = 20 + 40 * torch.rand(N, generator=DRAW, dtype=torch.float64)


def others(i):
    return [j for j in range(N) if j != i]


def close(ours, theirs):
    return math.isclose(float(ours), float(theirs), rel_tol=1e-9)


def test_x_clr():
    """arXiv 2407.18134: cross-entropy from softmax(similarity of captions / tau_s) to softmax(z.z / tau)."""
    tau_s, expected = 0.1, 0.0
    for i in range(N):
        rest = others(i)
        s = (TEXTS[rest] @ TEXTS[i] / tau_s).softmax(0)
        expected -= (s * log_softmax(Z[rest] @ Z[i] / TAU, 0)).sum() / N
    ours = gen_supcon_loss(Z, pair_similarity=(TEXTS @ TEXTS.T / tau_s).exp(), temperature=TAU)
    assert close(ours, expected)


def test_cwcl():
    """arXiv 2309.14580: rows of one modality against all of the other, weighed by (1 + cosine) / 2."""
    expected = 0.0
    for i in range(N):
        w = (1 + TEXTS @ TEXTS[i]) / 2
        expected -= (w * log_softmax(KEYS @ Z[i] / TAU, 0)).sum() / w.sum() / N
    ours = gen_supcon_loss(
        Z, contrast_latents=KEYS, pair_similarity=(1 + TEXTS @ TEXTS.T) / 2, temperature=TAU
    )
    assert close(ours, expected)


def test_soft_target_infonce_with_uniform_noise_and_unit_vectors():
    """arXiv 2404.14076: which of the batch's blended class vectors is the anchor's own?"""
    blended = normalize(SOFT @ CENTERS)
    expected = -log_softmax(Z @ blended.T / TAU, 1).diagonal().mean()
    own = torch.arange(N)
    ours = gen_supcon_loss(
        Z, own, contrast_latents=SOFT @ CENTERS, contrast_labels=own, temperature=TAU
    )
    assert close(ours, expected)
    longer = -log_softmax(Z @ (SOFT @ CENTERS).T / TAU, 1).diagonal().mean()  # as published
    assert not math.isclose(ours, longer, rel_tol=1e-2)


def test_paco_with_unit_centers_of_the_same_temperature():
    """arXiv 2107.12028: class centers are contrasts too; they weigh beta, samples alpha."""
    alpha, beta, expected = 0.05, 1.0, 0.0
    for i in range(N):
        rest = others(i)
        log_p = log_softmax(torch.cat([Z[rest], CENTERS]) @ Z[i] / TAU, 0)
        same = (NUMBERS[rest] == NUMBERS[i]).double()
        w = torch.cat([alpha * same, beta * one_hot(NUMBERS[i], C)])
        expected -= (w * log_p).sum() / w.sum() / N
    rows, of_rows = torch.cat([Z, CENTERS]), torch.cat([NUMBERS, torch.arange(C)])
    weight = torch.cat([torch.full((N,), alpha), torch.full((C,), beta)])
    ours = gen_supcon_loss(
        rows,
        pair_similarity=(of_rows[:, None] == of_rows) * weight,
        anchor_weight=torch.arange(N + C) < N,
        temperature=TAU,
    )
    assert close(ours, expected)


def test_y_aware():
    """arXiv 2106.08808: a Gaussian kernel of continuous targets weighs the pairs."""
    expected = 0.0
    for i in range(N):
        rest = others(i)
        w = (-((AGES[rest] - AGES[i]) ** 2) / (2 * 5.0**2)).exp()
        expected -= (w * log_softmax(Z[rest] @ Z[i] / TAU, 0)).sum() / w.sum() / N
    ours = gen_supcon_loss(Z, AGES, similarity=gaussian_similarity(5.0), temperature=TAU)
    assert close(ours, expected)


def l_in(z, numbers):
    """SupCon, Eq. 3: the mean over positives inside the logarithm."""
    total = 0.0
    for i in range(len(z)):
        rest = [j for j in range(len(z)) if j != i]
        log_p = log_softmax(z[rest] @ z[i] / TAU, 0)
        positives = numbers[rest] == numbers[i]
        total -= (logsumexp(log_p[positives], 0) - math.log(positives.sum())) / len(z)
    return total


def test_l_in_is_at_most_this_loss_and_the_same_with_one_positive_each():
    z, numbers = Z[:8], torch.arange(8) // 4
    assert l_in(z, numbers) < gen_supcon_loss(z, numbers, temperature=TAU) - 0.01
    pairs = torch.arange(8) // 2
    assert close(gen_supcon_loss(z, pairs, temperature=TAU), l_in(z, pairs))


def test_rank_n_contrast_is_of_no_such_form():
    """arXiv 2210.01189: the denominator depends on the pair (here with cosines for negative distances).

    Two gradients by the scores of L = sum_ij s_ij (log Z_i - u_ij), s fixed, differ in row i by a multiple of
    the softmaxes' difference, whatever s is. Those of Rank-N-Contrast do not.
    """
    distance = (AGES[:, None] - AGES).abs()

    def softmax_and_gradient(scores):
        scores, loss = scores.clone().requires_grad_(), 0.0
        for i in range(N):
            for j in others(i):
                farther = [k for k in others(i) if distance[i, k] >= distance[i, j]]
                loss -= (scores[i, j] - logsumexp(scores[i, farther], 0)) / (N - 1)
        loss.backward()
        return scores.detach().fill_diagonal_(-math.inf).softmax(1), scores.grad

    (p, gradient), (q, other) = map(softmax_and_gradient, (Z @ Z.T / TAU, KEYS @ KEYS.T / TAU))
    assert cosine_similarity(p - q, gradient - other).max() < 0.99
