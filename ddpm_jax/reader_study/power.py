"""What a study of a given size can show, by exact binomial sums."""

from scipy import stats

PAPER_ACCURACY = (124, 200)
PAPER_DISCREPANCY = (0, 100)
"""The published study: two surgeons, 62 % right of 200; no error in 100 images."""

ACCURACIES = (0.55, 0.58, 0.60, 0.62, 0.65, 0.70, 0.75)
RATES = (0.005, 0.01, 0.02, 0.03, 0.05)


def critical(total: int, alpha: float = 0.05) -> int:
    """The least number right of `total` that differs from chance in the two-sided
    exact test of 1/2; total + 1 where none does."""
    for count in range(total // 2 + 1, total + 1):
        if 2 * stats.binom.sf(count - 1, total, 0.5) <= alpha:
            return count
    return total + 1


def power(total: int, accuracy: float, alpha: float = 0.05) -> float:
    """The chance that a reader of this accuracy is told from one who guesses."""
    most = critical(total, alpha)
    high = stats.binom.sf(most - 1, total, accuracy)
    return float(high + stats.binom.cdf(total - most, total, accuracy))


def found(total: int, rate: float) -> float:
    """The chance of at least one event in `total`."""
    return 1 - (1 - rate) ** total


def bound(total: int, confidence: float = 0.95) -> float:
    """The largest rate at which no event in `total` has a chance of 1 - confidence."""
    return 1 - (1 - confidence) ** (1 / total)


def describe_accuracy(total: int) -> str:
    """Real or synthetic, `total` images a reader, in words."""
    if critical(total) > total:
        return f"{total} images a reader: too few to tell any accuracy from guessing."
    least = next(
        (a / 1000 for a in range(500, 1001) if power(total, a / 1000) >= 0.8), 1.0
    )
    head = "".join(f"{a:>7.0%}" for a in ACCURACIES)
    body = "".join(f"{power(total, a):>7.0%}" for a in ACCURACIES)
    return (
        f"Power, {total} images a reader, exact two-sided test of 50 % at 5 %:\n"
        f"  a reader differs from guessing from {critical(total)} right on, or from "
        f"{total - critical(total)} right down\n"
        f"  true accuracy {head}\n  power         {body}\n"
        f"  80 % power from an accuracy of {least:.1%} on"
    )


def describe_rate(total: int) -> str:
    """Label discrepancy, `total` images a reader, in words."""
    head = "".join(f"{r:>8.1%}" for r in RATES)
    body = "".join(f"{found(total, r):>8.0%}" for r in RATES)
    return (
        f"Power, {total} images a reader:\n"
        f"  true rate of wrong labels  {head}\n  chance to meet one or more {body}\n"
        f"  if none is found, the rate is at most {bound(total):.2%} (95 %, one-sided)"
    )
