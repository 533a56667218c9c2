"""``python -m tests.on_demand.fuzz.recurrences --bodies 100000``: the kinds of random bodies' states, by their numbers.

Prints each seed whose recurrence is not what is said, and how many there were of each kind; exits with 1 for any. About
100 bodies a second.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections import Counter

from lstmc.patterns import recurrences
from tests.patterns.linear_bodies import random_body
from tests.patterns.test_linear import check


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="the first body's")
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    wrong = 0
    print(f"bodies from seed {options.seed} on", flush=True)
    for seed in range(options.seed, options.seed + options.bodies):
        body = random_body(seed)
        for recurrence in recurrences(body):
            kinds["sequential" if recurrence.kind is None else recurrence.kind.name.lower()] += 1
            try:
                check(body, recurrence, seed)
            except AssertionError as error:
                wrong += 1
                print(f"seed {seed}: {', '.join(recurrence.names)}: {recurrence.kind}: {error}", flush=True)
    print(f"{options.bodies} bodies, {wrong} wrong: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
