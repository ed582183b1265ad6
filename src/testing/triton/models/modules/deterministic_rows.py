"""Rows that depend on the unmasked token ids and their order alone, the same bits in any language.

Four polynomial hashes of the ids, each modulo a prime just under 2**20, become the coefficients of
a polynomial modulo 8191; its values at 1, 2, ... are the row before scaling. Every product stays
under 2**53, so integers and doubles agree; the sum of squares is an exact integer; square root,
division and the rounding to float32 are exact to the last bit by IEEE 754. Masked positions do not
count, on whichever side they stand: a row never knows its padding or its neighbours.
"""
import numpy as np

HASH_PRIMES = (1048573, 1048571, 1048559, 1048549)
HASH_BASES = (31, 37, 41, 43)
ROW_PRIME = 8191
ROW_SHIFT = 4095


class DeterministicRows:
    def __init__(self, dimension):
        x = np.arange(1, dimension + 1, dtype=np.int64) % ROW_PRIME
        powers = [x]
        for _ in HASH_BASES[1:]:
            powers.append(powers[-1] * x % ROW_PRIME)
        self.powers = np.stack(powers)
        self.weights = np.ones((len(HASH_BASES), 0), dtype=np.int64)

    def rows(self, ids, mask):
        """`ids` and `mask` are [texts, tokens], any integer type, ids not negative.

        Returns float32 [texts, dimension].
        """
        ids = ids.astype(np.int64)
        on = mask != 0
        rank = np.maximum(np.cumsum(on, axis=1) - 1, 0)
        self._reach(ids.shape[1])
        hashes = []
        for prime, weights in zip(HASH_PRIMES, self.weights):
            terms = (ids % prime + 1) * weights[rank] % prime
            hashes.append((terms * on).sum(axis=1) % prime % ROW_PRIME)
        values = np.stack(hashes, axis=1) @ self.powers % ROW_PRIME - ROW_SHIFT
        norms = np.sqrt((values * values).sum(axis=1).astype(np.float64))
        return (values.astype(np.float64) / norms[:, None]).astype(np.float32)

    def _reach(self, token_count):
        """Extends the table of base**rank, so that a longer text finds its weights."""
        known = self.weights.shape[1]
        if known >= token_count:
            return
        table = np.empty((len(HASH_BASES), token_count), dtype=np.int64)
        for k, (base, prime) in enumerate(zip(HASH_BASES, HASH_PRIMES)):
            weight = 1
            for i in range(token_count):
                table[k, i] = weight
                weight = weight * base % prime
        self.weights = table
