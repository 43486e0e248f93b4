"""Slow and obvious references, in float64 and plain loops, written from the papers' text. Speed is no aim."""

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def norm(a):
    return math.sqrt(dot(a, a))


def similarity(a, b, kind="cosine"):
    """GenSCL, Eq. 1, and the two other choices."""
    if kind == "cosine":
        return dot(a, b) / (norm(a) * norm(b))
    if kind == "inner_product":
        return dot(a, b)
    return sum(math.sqrt(x * y) for x, y in zip(a, b, strict=True))


def similarities(labels, contrasts, kind="cosine"):
    return [[similarity(a, b, kind) for b in contrasts] for a in labels]


def alike(a, matrix, b):
    """a^T S b"""
    return sum(x * matrix[i][j] * y for i, x in enumerate(a) for j, y in enumerate(b))


def class_similarities(labels, contrasts, matrix):
    """y_i^T S y_j / sqrt(y_i^T S y_i  y_j^T S y_j)"""
    return [
        [
            alike(a, matrix, b) / math.sqrt(alike(a, matrix, a) * alike(b, matrix, b))
            for b in contrasts
        ]
        for a in labels
    ]


def log_softmax(latent, contrasts, allowed, temperature):
    """log p_ij over the contrasts j that are allowed, as a dict j -> value."""
    scores = {
        j: dot(latent, contrasts[j]) / (norm(latent) * norm(contrasts[j])) / temperature
        for j in allowed
    }
    largest = max(scores.values())
    log_sum = largest + math.log(sum(math.exp(s - largest) for s in scores.values()))
    return {j: s - log_sum for j, s in scores.items()}


def anchor_terms(latents, targets, temperature, contrasts=None, weighting="normalized"):
    """For each anchor its loss, the least there is, and that of equal p; all 0 where nothing resembles it.

    GenSCL, Eq. 2, and its row-normalized form, of pairs of a weight a_t and similarities s_t,ij: the terms
    a_t w_t,ij of all targets are added up to one distribution v over contrasts, whose sum is A.
    """
    itself = contrasts is None
    contrasts = latents if itself else contrasts
    terms = []
    for i, latent in enumerate(latents):
        others = [j for j in range(len(contrasts)) if not (itself and j == i)]
        log_p = log_softmax(latent, contrasts, others, temperature)
        v = dict.fromkeys(others, 0.0)
        for weight, s in targets:
            divisor = len(others) if weighting == "eq2" else sum(s[i][j] for j in others)
            for j in others:
                v[j] += weight * s[i][j] / divisor if divisor else 0.0
        total = sum(v.values())
        loss = -sum(v[j] * log_p[j] for j in others)
        floor = -sum(v[j] * math.log(v[j] / total) for j in others if v[j] > 0)
        terms.append((loss, floor, total * math.log(len(others)), total > 0))
    return terms


def gen_supcon(latents, targets, temperature, contrasts=None, weighting="normalized", mask=None):
    """Return loss, floor, chance and the number of skipped anchors; ``mask`` weighs anchors.

    ``targets`` are s_ij, or pairs of a weight and s_ij.
    """
    targets = targets if isinstance(targets[0], tuple) else [(1.0, targets)]
    terms = anchor_terms(latents, targets, temperature, contrasts, weighting)
    weights = [1.0] * len(latents) if mask is None else [float(m) for m in mask]
    skipped = sum(
        w > 0 and not resembles for w, (*_, resembles) in zip(weights, terms, strict=True)
    )
    if weighting != "eq2":
        weights = [w * resembles for w, (*_, resembles) in zip(weights, terms, strict=True)]
    means = [
        sum(w * term[part] for w, term in zip(weights, terms, strict=True)) / sum(weights)
        for part in range(3)
    ]
    return *means, skipped


def supcon_out(latents, classes, temperature, base_temperature):
    """SupCon, Eq. 2 (the sum over positives outside the log), with SupContrast's factor."""
    total = 0.0
    for i in range(len(latents)):
        others = [j for j in range(len(latents)) if j != i]
        log_p = log_softmax(latents[i], latents, others, temperature)
        positives = [j for j in others if classes[j] == classes[i]]
        total += (
            -(temperature / base_temperature) * sum(log_p[j] for j in positives) / len(positives)
        )
    return total / len(latents)


def nt_xent(first, second, temperature):
    """SimCLR, Eq. 1, averaged over all 2N rows."""
    rows, images = first + second, len(first)
    total = 0.0
    for i in range(2 * images):
        others = [j for j in range(2 * images) if j != i]
        total -= log_softmax(rows[i], rows, others, temperature)[(i + images) % (2 * images)]
    return total / (2 * images)


def calibration_error(probabilities, labels, bins):
    """Naeini et al., as in arXiv 1706.04599, Eq. 3: bins are open below and closed above."""
    gap = 0.0
    for b in range(bins):
        rows = [i for i, p in enumerate(probabilities) if b / bins < max(p) <= (b + 1) / bins]
        confidence = sum(max(probabilities[i]) for i in rows)
        right = sum(probabilities[i].index(max(probabilities[i])) == labels[i] for i in rows)
        gap += abs(confidence - right)
    return gap / len(labels)


def retrieval(features, labels):
    """Recall at 1 and 5 and mean average precision, as their definitions say, of tensors' rows."""
    z, labels, found = features.double().tolist(), labels.tolist(), []
    for i in range(len(z)):
        cosine = [dot(z[i], other) / (norm(z[i]) * norm(other)) for other in z]
        nearest = sorted(range(len(z)), key=lambda j: -cosine[j])
        right = [labels[j] == labels[i] for j in nearest if j != i]
        if any(right):
            precisions = [sum(right[: k + 1]) / (k + 1) for k in range(len(right)) if right[k]]
            found.append((right[0], any(right[:5]), sum(precisions) / len(precisions)))
    return [sum(values) / len(found) for values in zip(*found, strict=True)]
