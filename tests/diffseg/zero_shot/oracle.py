"""Zero-shot heat maps by plain loops over dense float64 maps."""

from dataclasses import replace
from functools import lru_cache

import torch

from diffseg.passes.denoise import denoiser_pass
from diffseg.settings import Settings
from tokenrank_guidance.capture import capture
from tokenrank_guidance.components import denoiser_of


def dense_maps(record):
    """Softmax of the record's last batch row, (heads, n, n), in float64."""
    q, k = record.q[-1].double(), record.k[-1].double()
    return (q @ k.mT * record.scale).softmax(-1)


def second_modulus(matrix):
    return torch.linalg.eigvals(matrix).abs().sort(descending=True).values[1]


@lru_cache(16)
def moduli_of(record):
    return [second_modulus(one) for one in dense_maps(record)]


def head_weights(record, kind):
    moduli = moduli_of(record) if kind == "lambda2" else [1.0] * record.heads
    total = sum(moduli)
    return [float(one / total) for one in moduli]


def start(tokens, offset, n):
    row = torch.zeros(n, dtype=torch.float64)
    for token in tokens:
        row[offset + token] += 1 / len(tokens)
    return row


def step(row, matrix, direction):
    if direction == "incoming":
        matrix = received(matrix)
    return torch.stack([sum(row[i] * matrix[i, j] for i in range(len(row))) for j in range(len(row))])


def fast_step(row, matrix, direction):
    return row @ (received(matrix) if direction == "incoming" else matrix)


def received(matrix):
    """Row j: who attends to token j, by share; nothing where nobody does."""
    return (matrix / matrix.sum(0)).nan_to_num().T


def walk(record, tokens, n, direction, weights, mix):
    """The image part of a walk of `n` steps from the even distribution over `tokens` of the text."""
    maps = dense_maps(record)
    shares = head_weights(record, weights)
    chains = [sum(w * m for w, m in zip(shares, maps, strict=True))] if mix == "layers" else maps
    ends = []
    for matrix in chains:
        row = start(tokens, record.text.start, record.tokens)
        for _ in range(n):
            row = fast_step(row, matrix, direction)
        ends.append(row)
    end = ends[0] if mix == "layers" else sum(w * e for w, e in zip(shares, ends, strict=True))
    return end[record.image].reshape(record.grid)


def limit(record, weights, mix):
    """The image part of the leading left eigenvector of the damped chain."""
    maps = dense_maps(record)
    shares = head_weights(record, weights)
    chains = [sum(w * m for w, m in zip(shares, maps, strict=True))] if mix == "layers" else maps
    ends = []
    for matrix in chains:
        values, vectors = torch.linalg.eig((0.99 * matrix + 0.01 / len(matrix)).T)
        leading = vectors[:, values.real.argmax()].real
        ends.append(leading / leading.sum())
    end = ends[0] if mix == "layers" else sum(w * e for w, e in zip(shares, ends, strict=True))
    return end[record.image].reshape(record.grid)


def rollout(records, tokens, weights):
    """The words' rows of the product over layers of (I + P) / 2, the matrix product itself."""
    product = torch.eye(records[0].tokens, dtype=torch.float64)
    for record in records:
        maps = dense_maps(record)
        mixed = sum(w * m for w, m in zip(head_weights(record, weights), maps, strict=True))
        product = (mixed + torch.eye(len(mixed), dtype=torch.float64)) / 2 @ product
    row = start(tokens, records[-1].text.start, records[-1].tokens) @ product
    return row[records[-1].image].reshape(records[-1].grid)


def records_of(pipe, picture, caption, layers, *, timestep=500, seed=0, resolution=None):
    """Records of one noised pass, by `capture` alone."""
    settings = Settings(timestep=timestep, add_noise=True, seed=seed, resolution=resolution)
    with capture(denoiser_of(pipe), layers) as records:
        denoiser_pass(pipe, picture, settings, caption)
    return list(records)


def one_matrix(records, kind, keyed=False):
    """All heads of all records in one matrix, with the weights of all of them together."""
    total, weight = 0, 0
    for record in records:
        moduli = moduli_of(record) if kind == "lambda2" else [1.0] * record.heads
        for own, maps, logits in zip(moduli, dense_maps(record), dense_logits(record), strict=True):
            total, weight = total + own * (logits.softmax(0) if keyed else maps), weight + own
    mixed = total / weight
    return mixed / mixed.sum(1, keepdim=True) if keyed else mixed


def dense_logits(record):
    return record.q[-1].double() @ record.k[-1].double().mT * record.scale


def one_walk(records, tokens, options):
    """The image part of what `options`, as keywords, say of the one matrix of all records."""
    method, n, like = options["method"], options.get("n", 2), records[0]
    matrix = one_matrix(records, options.get("head_weights", "lambda2"), method == "keyed")
    damping = options.get("damping", 1.0)
    matrix = damping * matrix + (1 - damping) / len(matrix)
    row, image = start(tokens, like.text.start, like.tokens), range(*like.image.indices(like.tokens))
    image = torch.tensor(list(image))
    if method == "image-bounce":
        block = matrix[image][:, image]
        end = (row @ received(matrix))[image]
        for _ in range(n - 1):
            end = end @ received(block)
        return end.reshape(like.grid)
    if method == "absorbing":
        block = options.get("survival", 0.5) * matrix[image][:, image]
        once = matrix[image] @ (row > 0).double()
        return torch.linalg.solve(torch.eye(len(image), dtype=torch.float64) - block, once).reshape(like.grid)
    direction = {"column": "incoming", "keyed": "outgoing"}.get(method, options.get("direction", "outgoing"))
    for _ in range(1 if method == "column" else n):
        row = fast_step(row, matrix, direction)
    return row[image].reshape(like.grid)


def single_heads(record):
    """A record for each head."""
    return [
        replace(record, q=record.q[:, h : h + 1], k=record.k[:, h : h + 1], mask=None)
        for h in range(record.heads)
    ]
